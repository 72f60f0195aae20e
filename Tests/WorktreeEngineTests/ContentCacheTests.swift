import Foundation
import Git
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct ContentCacheTests {
    /// A checkout of a tree with so many files of ten bytes, as far as the cache knows of it.
    /// - Returns: where it took its contents.
    @discardableResult
    private func checkOut(_ key: String, _ files: Int, _ cache: ContentCache, fails: Bool = false) -> String {
        let source = cache.source(key, entries: files)
        let bytes = Array("0123456789".utf8)
        if case .recording(let contents) = source {
            for file in 0..<files { bytes.withUnsafeBytes { contents.record(file, $0) } }
        }
        cache.finished(key, source, size: fails ? nil : files * 10, count: files)
        switch source {
        case .repository: return "repository"
        case .recording: return "recording"
        case .memory(let contents):
            for file in 0..<files { #expect(contents[file].elementsEqual(bytes)) }
            return "memory"
        }
    }

    /// What a tree of so many files takes.
    private func cost(_ files: Int) -> Int { TreeContents.cost(entries: files, bytes: files * 10) }

    @Test func `the first reads, the second keeps what it reads, and from the third on nothing is read`() {
        let cache = ContentCache(limit: 10_000)
        #expect((0..<4).map { _ in checkOut("a", 7, cache) } == ["repository", "recording", "memory", "memory"])
        #expect(cache.size == cost(7))
        #expect(checkOut("b", 7, cache) == "repository")
    }

    @Test func `what was used longest ago makes room, and what can have none is not kept`() {
        let cache = ContentCache(limit: 2 * cost(5))
        for key in ["a", "b"] { for _ in 0..<2 { checkOut(key, 4, cache) } }
        #expect(checkOut("a", 4, cache) == "memory")
        for _ in 0..<2 { checkOut("c", 5, cache) }
        #expect(cache.size == cost(4) + cost(5))
        #expect(checkOut("a", 4, cache) == "memory")
        #expect(checkOut("c", 5, cache) == "memory")
        #expect(checkOut("b", 4, cache) == "recording")
        for _ in 0..<3 { #expect(checkOut("large", 400, cache) == "repository") }
        #expect(cache.size == cost(4) + cost(5))
        let none = ContentCache(limit: 0)
        for _ in 0..<3 { #expect(checkOut("a", 1, none) == "repository") }
    }

    @Test func `a checkout that fails keeps nothing, and a tree that is longer than it was said to be is never kept`() {
        let cache = ContentCache(limit: 10_000)
        checkOut("a", 5, cache)
        #expect(checkOut("a", 5, cache, fails: true) == "recording")
        #expect(cache.size == 0)
        #expect(checkOut("a", 5, cache) == "recording")
        #expect(checkOut("a", 5, cache) == "memory")
        // As one with files of more than 4 GiB.
        checkOut("b", 5, cache)
        #expect(checkOut("b", 6, cache) == "recording")
        #expect(cache.size == cost(5))
        for _ in 0..<3 { #expect(checkOut("b", 6, cache) == "repository") }
    }

    @Test func `one that begins while another keeps the same tree reads it too`() {
        let cache = ContentCache(limit: 10_000)
        checkOut("a", 5, cache)
        let first = cache.source("a", entries: 5)
        #expect(checkOut("a", 5, cache) == "repository")
        cache.finished("a", first, size: nil, count: 5)
        #expect(checkOut("a", 5, cache) == "recording")
    }

    @Test func `what nobody asks for is given back after a while`() async throws {
        let cache = ContentCache(limit: 10_000, idle: .milliseconds(100))
        for _ in 0..<2 { checkOut("a", 5, cache) }
        #expect(cache.size == cost(5))
        while cache.size > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(checkOut("a", 5, cache) == "recording")
    }

    @Test func `empty files and empty trees have their place`() {
        let cache = ContentCache(limit: 10_000)
        for _ in 0..<2 { checkOut("a", 0, cache) }
        let source = cache.source("a", entries: 0)
        if case .memory = source {} else { Issue.record("an empty tree is not kept") }
        let contents = TreeContents(entries: 1, bytes: 0)
        contents?.record(0, UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(contents?.seal(1) == true)
        #expect(contents?[0].count == 0)
    }

    /// Nothing that attributes convert.
    private static let plain = TestFile.assorted.filter { !$0.path.hasSuffix(".gitattributes") }

    @Test func `spawns and slots of one commit share what is kept, and another commit has its own`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", Self.plain)
        let engine = try await scratch.engine { $0.refillsPools = false }
        let expected = try await gitsOwnCheckout(of: repository.head(), in: repository.path, scratch: scratch)
        for number in 1...3 {
            let workdir = try await engine.spawn(request(repository.path, issue: "local#\(number)"))
            #expect(try snapshot(workdir.path) == expected)
            try await expectClean(workdir.path)
        }
        let kept = engine.contents.size
        #expect(kept > 0)
        try await engine.fillPool(repository: repository.path, size: 2)
        let claimed = try await engine.spawn(request(repository.path, issue: "local#4"))
        #expect(claimed.materializer == .pool)
        #expect(try snapshot(claimed.path) == expected)
        try await expectClean(claimed.path)
        try await engine.drainPool()

        try await repository.commit([TestFile("README.md", "another\n"), TestFile("more", "x")], message: "second")
        let other = try await gitsOwnCheckout(of: repository.head(), in: repository.path, scratch: scratch)
        for number in 5...7 {
            let workdir = try await engine.spawn(request(repository.path, issue: "local#\(number)"))
            #expect(try snapshot(workdir.path) == other)
            try await expectClean(workdir.path)
        }
        #expect(engine.contents.size > kept)
    }

    @Test func `what attributes convert is not kept, and what settings change is not taken from memory`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("a.txt", "one\ntwo\n")])
        let engine = try await scratch.engine()
        for number in 1...3 { _ = try await engine.spawn(request(repository.path, issue: "local#\(number)")) }
        let kept = engine.contents.size
        #expect(kept > 0)
        try await git("config", "core.autocrlf", "true", in: repository.path)
        for number in 4...6 {
            let workdir = try await engine.spawn(request(repository.path, issue: "local#\(number)"))
            #expect(try String(contentsOfFile: "\(workdir.path)/a.txt", encoding: .utf8) == "one\r\ntwo\r\n")
        }
        #expect(engine.contents.size == kept)
    }

    @Test func `a workdir that cannot be written fails also from memory, and the next is whole`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let commonDir = "\(repository.path)/.git"
        let handle = try Repository(gitDirectory: commonDir)
        let flat = try handle.flatten(tree: handle.tree(ofCommit: handle.commit("HEAD")))
        let cache = Checkout.Cache(contents: ContentCache(limit: 1 << 20), key: "key")
        let checkout = Checkout(commonDir: commonDir, flat: flat, conversion: .none, workers: 2, cache: cache)
        func place(_ name: String) throws -> String {
            let path = "\(scratch.path)/\(name)"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            return path
        }
        let first = try place("first")
        _ = try checkout.fill(first)
        for number in 0..<4 {
            let path = try place("blocked-\(number)")
            try write(TestFile("zero", "in the way"), in: path)
            #expect(throws: SystemError.self) { try checkout.fill(path) }
        }
        #expect(cache.contents.size == 0)
        for number in 0..<3 {
            let path = try place("whole-\(number)")
            _ = try checkout.fill(path)
            #expect(try snapshot(path) == snapshot(first))
        }
        #expect(cache.contents.size > 0)
        #expect(throws: SystemError.self) { try checkout.fill(try place("blocked-0")) }
    }
}
