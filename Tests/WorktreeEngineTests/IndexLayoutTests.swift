import Foundation
import Git
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct IndexLayoutTests {
    /// Names around the slash in the order of bytes, one that begins another, and directories without files of their own.
    private static let paths = [
        "a-b", "a.c/f", "a/b-c", "a/b.d/e", "a/b/c", "a/b/c-", "a/b0", "a/z/y/x/w", "a0", "ab/f", "ab/ff/f",
        "b/c/d/e/f",
        "b/c/d0", "c", "z/f",
    ]

    @Test func `it has the directories, files and names that the paths have`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", Self.paths.map { TestFile($0) })
        try await check(Self.paths, repository)
        // Version 4 keeps only the ends of paths.
        try await git("update-index", "--index-version", "4", in: repository.path)
        try await check(Self.paths, repository)
    }

    @Test func `an index without entries has the top alone`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        try await git("read-tree", "--empty", in: repository.path)
        try await check([], repository)
    }

    /// git keeps such a path in its index, though it can stand in no workdir.
    @Test func `an index with a path that is too long for a workdir proves nothing`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let blob = try await git("rev-parse", "HEAD:f", in: repository.path).trimmingCharacters(in: .newlines)
        for (length, isRead) in [(8191, true), (8192, false)] {
            let path = String(repeating: "d/", count: length / 2) + (length % 2 == 0 ? "" : "f")
            let name = path.hasSuffix("/") ? path.dropLast() + "f" : path[...]
            try await git("read-tree", "--empty", in: repository.path)
            try await git("update-index", "--add", "--cacheinfo", "100644,\(blob),\(name)", in: repository.path)
            let index = try? IndexFile(path: "\(repository.path)/.git/index")
            #expect((index.flatMap { IndexLayout($0) } != nil) == isRead, "\(length)")
        }
    }

    private func check(_ paths: [String], _ repository: TestRepository) async throws {
        let index = try IndexFile(path: "\(repository.path)/.git/index")
        let layout = try #require(IndexLayout(index))
        #expect(index.entries.count == paths.count)
        var expected: [String: (files: Set<String>, folders: Set<String>)] = ["": ([], [])]
        for path in paths {
            var parent = ""
            let names = path.split(separator: "/").map(String.init)
            for name in names.dropLast() {
                expected[parent]!.folders.insert(name)
                parent += parent.isEmpty ? name : "/\(name)"
                expected[parent] = expected[parent] ?? ([], [])
            }
            expected[parent]!.files.insert(names.last!)
        }
        let found = layout.folders.map { String(decoding: index.bytes[$0.path], as: UTF8.self) }
        #expect(found.count == expected.count && Set(found) == Set(expected.keys))
        let names = Set(paths.flatMap { $0.split(separator: "/").map(String.init) }).union(["nothing", "~", "!"])
        for (number, folder) in found.enumerated() {
            let (files, folders) = try #require(expected[folder])
            var own: [String] = []
            layout.forEachFile(in: number) { position in
                own.append(String(decoding: index.bytes[index.entries.path(at: position)], as: UTF8.self))
                return true
            }
            let prefix = folder.isEmpty ? "" : "\(folder)/"
            #expect(Set(own) == Set(files.map { prefix + $0 }) && own.count == files.count)
            #expect(layout.folders[number].fileCount == files.count)
            #expect(layout.folders[number].folderCount == folders.count)
            for name in names {
                let (file, isFolder) = Array(name.utf8).withUnsafeBytes {
                    (layout.file($0, in: number, of: index), layout.hasFolder($0, in: number, of: index))
                }
                #expect(isFolder == folders.contains(name), "\(folder) \(name)")
                let path = file.map { String(decoding: index.path(index.entries[$0]), as: UTF8.self) }
                #expect(path == (files.contains(name) ? prefix + name : nil), "\(folder) \(name)")
            }
            for (other, path) in found.enumerated() {
                #expect(layout.holds(number, other) == (number != other && (folder.isEmpty || path.hasPrefix(prefix))))
            }
        }
    }
}
