import Foundation
import Git
import Glibc
import TestSupport
import Testing

@Suite struct IndexFileTests {
    @Test(arguments: [2, 3, 4]) func `every version says what git says`(version: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let long = String(repeating: "d", count: 200)
        try await sh(
            """
            mkdir -p \(long)/\(long); printf x >"$(printf 'n\\377')"; printf x >\(long)/\(long)/f; git add .
            git commit -qm more; echo new >later; git add -N later
            git update-index --assume-unchanged empty; git update-index --skip-worktree zero
            git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module
            git update-index --index-version \(version)
            """, in: repository.path)
        try await expectSameEntries(in: repository.path)
        // git writes 3 where an extended flag asks for it.
        #expect(try IndexFile(path: "\(repository.path)/.git/index").version == max(version, 3))
    }

    @Test func `paths longer than the length field are read`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let name = (0..<30).map { _ in String(repeating: "x", count: 200) }.joined(separator: "/")
        for version in [2, 4] {
            try await sh(
                """
                git update-index --index-version \(version) --add --cacheinfo 100644,$(git rev-parse HEAD:f),\(name)
                git update-index --add --cacheinfo 100644,$(git rev-parse HEAD:f),\(name)y
                """, in: repository.path)
            try await expectSameEntries(in: repository.path)
        }
    }

    @Test func `the sides of a merge are told apart`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f"), TestFile("g")])
        try await sh(
            """
            git checkout -q -b other; echo b >f; git rm -q g; git commit -qam b; git checkout -q main
            echo a >f; echo a >g; git commit -qam a; git merge other >/dev/null || true
            """, in: repository.path)
        try await expectSameEntries(in: repository.path)
        let index = try IndexFile(path: "\(repository.path)/.git/index")
        #expect(index.entries.map(\.stage) == [1, 2, 3, 1, 2])
        #expect(index.entries.allSatisfy { !$0.isPlain })
        #expect(index.rootTree == nil)
    }

    @Test func `the root of the cache-tree is given while it is valid`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        func root() throws -> String? {
            try IndexFile(path: "\(repository.path)/.git/index").rootTree?.description
        }
        try await sh("git read-tree HEAD", in: repository.path)
        let tree = try await sh("git rev-parse 'HEAD^{tree}'", in: repository.path)
        #expect(try root() == String(tree.prefix(40)))
        try await sh("echo more >>README.md; git add README.md", in: repository.path)
        #expect(try root() == nil)
        let staged = try await git("write-tree", in: repository.path)
        #expect(try root() == String(staged.prefix(40)))
    }

    @Test func `an index of another form is refused`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let path = "\(repository.path)/.git/index"
        try await sh("git update-index --split-index", in: repository.path)
        #expect(throws: GitError.self) { try IndexFile(path: path) }
        try await sh(
            "git update-index --no-split-index; git sparse-checkout set --sparse-index sub", in: repository.path)
        #expect(throws: GitError.self) { try IndexFile(path: path) }
        #expect(throws: GitError.self) { try IndexFile(path: repository.path) }
        try FileManager.default.removeItem(atPath: path)
        let missing = #expect(throws: GitError.self) { try IndexFile(path: path) }
        #expect(missing?.isNotFound == true)
        #expect(symlink("elsewhere", path) == 0)
        #expect(throws: GitError.self) { try IndexFile(path: path) }
        #expect(throws: GitError.self) { try IndexFile(bytes: [], modifiedSeconds: 0) }
    }

    @Test func `an entry is racy when the index is not younger`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        try await sh("touch -d 2001-01-01T00:00:00 f; git update-index --refresh", in: repository.path)
        let index = try IndexFile(path: "\(repository.path)/.git/index")
        #expect(!index.isRacy(index.entries[0]) && !index.hasRacyEntries)
        let content = Array(try Data(contentsOf: URL(fileURLWithPath: "\(repository.path)/.git/index")))
        var value = stat()
        #expect(lstat("\(repository.path)/f", &value) == 0)
        let seconds = Int32(value.st_mtim.tv_sec)
        let old = try IndexFile(bytes: content, modifiedSeconds: seconds)
        #expect(old.isRacy(old.entries[0]) && old.hasRacyEntries)
        #expect(!(try IndexFile(bytes: content, modifiedSeconds: seconds + 1)).isRacy(old.entries[0]))
    }

    @Test(arguments: [2, 4]) func `a damaged index is refused or read, but nothing else`(version: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh(
            "git read-tree HEAD; git update-index --skip-worktree zero; git update-index --index-version \(version)",
            in: repository.path)
        let content = Array(try Data(contentsOf: URL(fileURLWithPath: "\(repository.path)/.git/index")))
        let whole = try IndexFile(bytes: content, modifiedSeconds: 0)
        for length in 0..<content.count { exercise(Array(content[..<length]), limit: whole.entries.count) }
        var damaged = content
        for position in content.indices {
            for value in [content[position] ^ 0x80, content[position] ^ 1, 0, 0xFF, 0x7F] {
                damaged[position] = value
                exercise(damaged, limit: whole.entries.count)
            }
            damaged[position] = content[position]
        }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            var damaged = content
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                damaged[Int.random(in: 0..<damaged.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            if Bool.random() {
                let start = Int.random(in: 0..<damaged.count)
                damaged.removeSubrange(start..<min(damaged.count, start + Int.random(in: 1...64)))
            }
            exercise(damaged, limit: whole.entries.count)
        }
    }
}

/// Reads all that there is, which traps when a range is wrong.
private func exercise(_ content: [UInt8], limit: Int) {
    guard let index = try? IndexFile(bytes: content, modifiedSeconds: 0) else { return }
    var previous: ArraySlice<UInt8> = []
    for entry in index.entries {
        let path = index.path(entry)
        #expect(!path.isEmpty && !path.contains(0) && index.bytes[path.endIndex] == 0)
        #expect(!path.lexicographicallyPrecedes(previous))
        index.withPath(entry) { _ = $0.first }
        _ = (index.isRacy(entry), entry.isPlain)
        previous = path
    }
}

/// Compares an index file with what `git ls-files` says of it.
private func expectSameEntries(in directory: String) async throws {
    let index = try IndexFile(path: "\(directory)/.git/index")
    let zero: [UInt8] = [0]
    var stages: [UInt8] = []
    var tags: [UInt8] = []
    for entry in index.entries {
        let path = Array(index.path(entry))
        let mode = "000000\(String(entry.mode, radix: 8))".suffix(6)
        stages += Array("\(mode) \(entry.id) \(entry.stage)\t".utf8) + path + zero
        var tag = entry.stage > 0 ? "M" : entry.skipsWorktree ? "S" : "H"
        if entry.isAssumedValid { tag = tag.lowercased() }
        tags += Array("\(tag) ".utf8) + path + zero
        let isHidden = entry.isAssumedValid || entry.skipsWorktree
        #expect(entry.isPlain == !(isHidden || entry.isIntentToAdd || entry.isSubmodule || entry.stage > 0))
    }
    #expect(index.isPlain == index.entries.allSatisfy(\.isPlain))
    #expect(index.hasRacyEntries == index.entries.contains(where: index.isRacy))
    #expect(try await bytes("git ls-files --stage -z", in: directory) == stages)
    #expect(try await bytes("git ls-files -v -z", in: directory) == tags)

    // `  ctime: s:n`, `  mtime: s:n`, `  dev: d<TAB>ino: i`, `  uid: u<TAB>gid: g`, `  size: s<TAB>flags: f`
    let debug = try await git("ls-files", "--debug", in: directory)
    let lines = debug.split(separator: "\n").filter { $0.hasPrefix("  ") }
    #expect(lines.count == 5 * index.entries.count)
    for (position, entry) in index.entries.enumerated() where lines.count >= 5 * (position + 1) {
        let words = lines[(5 * position)..<(5 * position + 5)].joined(separator: "\t").split {
            $0 == "\t" || $0 == " " || $0 == ":"
        }
        let numbers = words.compactMap { Int($0) }
        guard numbers.count >= 9 else {
            Issue.record("\(words)")
            continue
        }
        let stat = FileStat(
            ctime: (numbers[0], numbers[1]), mtime: (numbers[2], numbers[3]), device: UInt64(numbers[4]),
            inode: UInt64(numbers[5]), user: UInt32(numbers[6]), group: UInt32(numbers[7]), size: Int64(numbers[8]))
        #expect(entry.stat == stat)
        #expect(entry.stat.matches(stat))
        #expect(words.last.flatMap { Int($0, radix: 16) }.map { $0 & 0x2000_0000 != 0 } == entry.isIntentToAdd)
    }
}
