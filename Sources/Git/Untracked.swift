import CLibGit2
import Foundation
import Glibc

extension Repository {
    /// Every file of the workdir that is not in the index, untracked or ignored as git has it; see ``IgnoreRules``.
    ///
    /// An ignored directory without tracked files is one entry, and so is a repository inside the workdir. A directory that
    /// may not be read counts as untracked: nobody knows what is in it.
    borrowing func untracked() throws(GitError) -> [StatusEntry] {
        var index: OpaquePointer?
        try check(git_repository_index(&index, pointer), "git_repository_index")
        defer { git_index_free(index) }
        return try untracked(index) { walk in walk.enter([]) }
    }

    /// The same for a workdir of which it is known what stands beside its tracked files.
    /// - Parameter extras: each without a slash at its end; a directory holds no tracked file.
    /// - Throws: ``GitError``.
    public borrowing func untracked(
        _ extras: [(path: [UInt8], isDirectory: Bool)]
    ) throws(GitError) -> [StatusEntry] {
        if extras.isEmpty { return [] }
        return try untracked(nil) { walk in
            for extra in extras { walk.look(at: extra.path, isDirectory: extra.isDirectory) }
        }
    }

    private borrowing func untracked(
        _ index: OpaquePointer?, _ start: (inout UntrackedWalk) -> Void
    ) throws(GitError) -> [StatusEntry] {
        guard let workdir = git_repository_workdir(pointer).map({ String(cString: $0) }) else { return [] }
        let rules = IgnoreRules(workdir: workdir, files: try sharedIgnoreFiles(workdir: workdir))
        var walk = UntrackedWalk(workdir: Array(workdir.utf8), index: index, rules: rules)
        start(&walk)
        walk.finish()
        return walk.result
    }

    /// `core.excludesFile` or its default, and `info/exclude`. See: man gitignore
    private borrowing func sharedIgnoreFiles(workdir: String) throws(GitError) -> [String] {
        let environment = ProcessInfo.processInfo.environment
        let home = environment["HOME"] ?? ""
        let exclude = "\(String(cString: git_repository_commondir(pointer)))info/exclude"
        let user =
            switch try configuration().last(where: { $0.name == "core.excludesfile" })?.value {
            case nil:
                "\(environment["XDG_CONFIG_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? "\(home)/.config")/git/ignore"
            case .some(let path) where path.hasPrefix("~/"): home + path.dropFirst(1)
            case .some(let path): path.hasPrefix("/") ? path : "\(workdir)/\(path)"
            }
        return [user, exclude]
    }
}

/// A walk over what is not tracked, and over the directories that lead there.
private struct UntrackedWalk {
    /// With a slash at its end.
    let workdir: [UInt8]
    /// nil when nothing that is looked at is tracked.
    let index: OpaquePointer?
    let rules: IgnoreRules
    var result: [StatusEntry] = []
    private var pending: [[UInt8]] = []

    init(workdir: [UInt8], index: OpaquePointer?, rules: IgnoreRules) {
        self.workdir = workdir
        self.index = index
        self.rules = rules
    }

    /// - Parameter directory: with a slash at its end, unless it is the top.
    mutating func enter(_ directory: [UInt8]) { pending.append(directory) }

    mutating func look(at path: [UInt8], isDirectory: Bool) {
        // A directory in the place of a tracked file is walked; one in that of a submodule is the submodule's.
        if let mode = trackedMode(path, index), !isDirectory || mode == 0o160000 { return }
        let isIgnored = rules.ignores(path[...], isDirectory: isDirectory)
        let listed = isDirectory ? path + [UInt8(ascii: "/")] : path
        if isDirectory {
            let hasTracked = index != nil && git_index_find_prefix(nil, index, cString(listed)) == 0
            let isRepository = !isIgnored && isRepository(workdir + listed)
            if hasTracked || !(isIgnored || isRepository) { return enter(listed) }
        }
        result.append(StatusEntry(path: listed, isUntracked: !isIgnored, isIgnored: isIgnored))
    }

    mutating func finish() {
        while let directory = pending.popLast() {
            guard let entries = directoryEntries(workdir + directory) else {
                result.append(StatusEntry(path: directory, isUntracked: true))
                continue
            }
            for (name, isDirectory) in entries where !name.elementsEqual(".git".utf8) {
                look(at: directory + name, isDirectory: isDirectory)
            }
        }
    }
}

private func cString(_ bytes: [UInt8]) -> [CChar] { (bytes + [0]).map { CChar(bitPattern: $0) } }

/// The mode of an index entry; nil when there is none.
private func trackedMode(_ path: [UInt8], _ index: OpaquePointer?) -> UInt32? {
    var position = 0
    guard index != nil, git_index_find(&position, index, cString(path)) == 0 else { return nil }
    return git_index_get_byindex(index, position)?.pointee.mode
}

private func isRepository(_ directory: [UInt8]) -> Bool {
    var value = stat()
    return lstat(cString(directory + Array(".git".utf8)), &value) == 0
}

/// Names and whether each is a directory; empty for a directory that is gone, nil for one that may not be read.
private func directoryEntries(_ path: [UInt8]) -> [(name: [UInt8], isDirectory: Bool)]? {
    let descriptor = open(cString(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return errno == ENOENT || errno == ENOTDIR ? [] : nil }
    guard let stream = fdopendir(descriptor) else {
        close(descriptor)
        return nil
    }
    defer { closedir(stream) }
    var result: [([UInt8], Bool)] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            pointer.withMemoryRebound(to: CChar.self, capacity: 256) { name in
                Array(UnsafeRawBufferPointer(start: name, count: strlen(name)))
            }
        }
        guard !name.elementsEqual(".".utf8), !name.elementsEqual("..".utf8) else { continue }
        var isDirectory = entry.pointee.d_type == UInt8(DT_DIR)
        if entry.pointee.d_type == UInt8(DT_UNKNOWN) {
            var value = stat()
            isDirectory =
                lstat(cString(path + [UInt8(ascii: "/")] + name), &value) == 0 && value.st_mode & S_IFMT == S_IFDIR
        }
        result.append((name, isDirectory))
    }
    return result
}
