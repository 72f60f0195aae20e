import Git
import Glibc

/// Why nothing can be said of a place: what stands there would make git wait for ever, or run what an agent has chosen.
/// All that is there then counts as work.
struct CannotLook: Error {
    /// For a person; names the file or setting.
    let reason: String
}

extension WorkingPlace {
    /// Refuses a git directory in which git, or libgit2, would open a FIFO or a device and wait for ever, before either
    /// is asked. Blocks.
    /// - Throws: ``CannotLook``.
    func checkGitDirectory() throws {
        try Self.refuseWaiting(in: gitDir, isGitDirectory: true)
        if commonDir != gitDir {
            for name in ["HEAD", "config", "packed-refs", "info/attributes", "info/exclude"] {
                try Self.refuseWaiting("\(commonDir)/\(name)", name)
            }
        }
        if isForeign { for directory in Set([gitDir, commonDir]) { try checkConfiguration(of: directory) } }
    }

    /// The same for the files: those that git reads for itself, and what is in repositories inside. Walks all
    /// directories, so it is for a workdir that is about to be inspected in full. Blocks.
    /// - Throws: ``CannotLook``.
    func checkFiles() throws {
        if let workdir { try Self.refuseWaiting(in: workdir, isGitDirectory: false) }
    }

    /// An agent's configuration may name further files, which may be anything as well.
    private func checkConfiguration(of directory: String) throws {
        for name in ["config", "config.worktree"] {
            guard let content = contents(of: "\(directory)/\(name)") else { continue }
            if String(decoding: content, as: UTF8.self).lowercased().contains("[include") {
                throw CannotLook(reason: "its configuration includes other files")
            }
            for entry in (try? ConfigFile.entries("\(directory)/\(name)")) ?? []
            where ["core.attributesfile", "core.excludesfile", "mailmap.file"].contains(entry.name) {
                let path = entry.value.hasPrefix("/") ? entry.value : "\(workdir ?? directory)/\(entry.value)"
                try Self.refuseWaiting(path, "\(entry.name) \(entry.value)")
            }
        }
    }

    private static func refuseWaiting(_ path: String, _ name: String) throws {
        var value = stat()
        if stat(path, &value) == 0, waits(value) { throw CannotLook(reason: "\(name) is no regular file") }
    }

    private static func refuseWaiting(in path: String, isGitDirectory: Bool) throws {
        // What cannot be opened, git cannot open either.
        guard let top = try? Directory(path) else { return }
        let read = [".gitattributes", ".gitignore", ".gitmodules"]
        try top.forEachBelow { parent, directory, name, type in
            if [UInt8(DT_REG), UInt8(DT_DIR)].contains(type) { return }
            let place = text(parent.count == 1 ? name : parent.dropLast() + [CChar(47)] + name)
            let names = place.split(separator: "/").map(String.init)
            guard isGitDirectory || names.dropLast().contains(".git") || names.last.map(read.contains) == true else {
                return
            }
            var value = stat()
            // Links are followed, as they are by libgit2, and by git in its own directory.
            guard fstatat(directory, name, &value, 0) == 0, waits(value) else { return }
            throw CannotLook(reason: "\(place)\(isGitDirectory ? " in the git directory" : "") is no regular file")
        }
    }

    /// A socket cannot be opened at all; git's file system monitor keeps one.
    private static func waits(_ value: stat) -> Bool {
        ![S_IFREG, S_IFDIR, S_IFSOCK].contains(value.st_mode & S_IFMT)
    }
}
