import Foundation
import TestSupport
import Testing

@testable import Git

@Suite struct PackTests {
    /// A repository whose objects are packed, with deltas: versions of a growing file.
    private func packed(_ scratch: Scratch, _ configuration: String = "true") async throws -> String {
        let repository = try await scratch.repository()
        var text = (0..<400).map { "line \($0) of a file that changes a little\n" }
        for version in 1...30 {
            text[version * 7] = "version \(version)\n"
            text.append("appended by \(version)\n")
            try await repository.commit([TestFile("grows.txt", text.joined())], message: "\(version)")
        }
        try await repository.commit(
            [TestFile("large.bin", String(repeating: "0123456789abcdef", count: 100_000))], message: "large")
        try await sh("\(configuration); git repack -adfq --depth=40 --window=20; git prune-packed", in: repository.path)
        return repository.path
    }

    private func blobs(_ path: String) async throws -> [ObjectID] {
        try await sh(
            "git cat-file --batch-all-objects --batch-check='%(objecttype) %(objectname)' | sed -n 's/^blob //p'",
            in: path
        ).split(separator: "\n").map { try #require(ObjectID(String($0))) }
    }

    /// Without a repository to fall back to.
    private func reader(_ objects: String) -> ObjectReader {
        ObjectReader(commonDir: "/nonexistent", packs: PackSet(objects: objects))
    }

    @Test(arguments: ["true", "git config repack.useDeltaBaseOffset false"])
    func `every blob of a pack is read as git stored it`(configuration: String) async throws {
        let scratch = try Scratch()
        let path = try await packed(scratch, configuration)
        let chain = try await sh("git verify-pack -v .git/objects/pack/*.idx | grep '^chain length'", in: path)
        #expect(chain.contains("chain length = 5"), "no deltas: \(chain)")
        var reader = reader("\(path)/.git/objects")
        let blobs = try await blobs(path)
        #expect(blobs.count > 45)
        // Twice, since the second time bases are remembered; and backwards, since then others are.
        for id in blobs + blobs.reversed() {
            #expect(try reader.withBlob(id) { ObjectID.ofBlob(Array($0)) } == id)
        }
    }

    @Test func `blobs of an alternate, and of one named relative to it, are found`() async throws {
        let scratch = try Scratch()
        let path = try await packed(scratch)
        try await sh("git clone --quiet --shared . '\(scratch.path)/shared'", in: path)
        try await sh("git init --quiet --bare '\(scratch.path)/bare'", in: path)
        try Data("../../shared/.git/objects\n".utf8).write(
            to: URL(fileURLWithPath: "\(scratch.path)/bare/objects/info/alternates"))
        var reader = reader("\(scratch.path)/bare/objects")
        for id in try await blobs(path) {
            #expect(try reader.withBlob(id) { ObjectID.ofBlob(Array($0)) } == id)
        }
    }

    @Test func `loose blobs, and those that come later, are read through libgit2`() async throws {
        let scratch = try Scratch()
        let path = try await packed(scratch)
        var reader = ObjectReader(commonDir: "\(path)/.git", packs: PackSet(objects: "\(path)/.git/objects"))
        for text in ["loose", "later"] {
            let hex = try await sh("echo \(text) | git hash-object -w --stdin", in: path)
            if text == "later" { try await sh("git add -A; git commit -qm x --allow-empty; git repack -adq", in: path) }
            let id = try #require(ObjectID(String(hex.prefix(40))))
            #expect(try reader.withBlob(id) { Array($0) } == Array("\(text)\n".utf8))
        }
    }

    @Test func `an object that is damaged in one pack is read from another`() async throws {
        let scratch = try Scratch()
        let path = try await packed(scratch)
        let directory = "\(path)/.git/objects/pack"
        // Another pack of the same objects, which comes first.
        try await sh(
            """
            P=$(echo pack-*.pack); cp ${P%.pack}.idx pack-0000.idx
            { head -c 12 $P; head -c $(($(wc -c <$P) - 32)) /dev/zero; tail -c 20 $P; } >pack-0000.pack
            """, in: directory)
        var reader = reader("\(path)/.git/objects")
        for id in try await blobs(path) {
            #expect(try reader.withBlob(id) { ObjectID.ofBlob(Array($0)) } == id)
        }
    }

    @Test func `a tree is no blob`() async throws {
        let scratch = try Scratch()
        let path = try await packed(scratch)
        let tree = try #require(ObjectID(String(try await sh("git rev-parse HEAD^{tree}", in: path).prefix(40))))
        var reader = ObjectReader(commonDir: "\(path)/.git", packs: PackSet(objects: "\(path)/.git/objects"))
        #expect(throws: GitError.self) { try reader.withBlob(tree) { $0.count } }
    }

    @Test(arguments: ["pack", "idx"])
    func `damaged packs give an error or bytes, and never more`(kind: String) async throws {
        let scratch = try Scratch()
        let path = try await packed(scratch)
        let blobs = try await blobs(path)
        let directory = "\(path)/.git/objects/pack"
        let name = try #require(
            try FileManager.default.contentsOfDirectory(atPath: directory).first { $0.hasSuffix(kind) })
        let url = URL(fileURLWithPath: "\(directory)/\(name)")
        let whole = try Data(contentsOf: url)
        try FileManager.default.removeItem(at: url)
        var generator = SplitMix(seed: 42)
        var failures = 0
        for round in 0..<120 {
            var damaged = whole
            if round % 4 == 0 {
                damaged = damaged.prefix(Int.random(in: 0..<damaged.count, using: &generator))
            } else {
                for _ in 0..<(round % 40 + 1) {
                    // Mostly where the headers are: deltas are small, and so is what names them.
                    let offset = Int.random(in: 0..<damaged.count, using: &generator)
                    damaged[damaged.startIndex + offset] = UInt8.random(in: .min ... .max, using: &generator)
                }
            }
            // A new file each time: the old one may still be mapped.
            try damaged.write(to: url, options: .atomic)
            var reader = reader("\(path)/.git/objects")
            for id in blobs where (try? reader.withBlob(id) { $0.reduce(0) { $0 &+ Int($1) } }) == nil { failures += 1 }
        }
        #expect(failures > 0)
    }

    @Test func `a patch that leaves its bounds is refused`() {
        let base = Array("0123456789".utf8)
        func patch(_ commands: [UInt8], result: UInt8) -> [UInt8]? {
            let delta: [UInt8] = [10, result] + commands
            return delta.withUnsafeBytes { delta in
                base.withUnsafeBytes { base in
                    guard let size = Delta.resultSize(delta, base: base.count) else { return nil }
                    var out = [UInt8](repeating: 0, count: size + 1)
                    let isDone = out.withUnsafeMutableBytes {
                        Delta.apply(delta, to: base, into: $0.baseAddress!, size)
                    }
                    return isDone ? Array(out.prefix(size)) : nil
                }
            }
        }
        #expect(patch([0x91, 2, 3], result: 3) == Array("234".utf8))
        #expect(patch([2, 65, 66, 0x90, 1], result: 3) == Array("AB0".utf8))
        #expect(patch([0x91, 8, 3], result: 3) == nil, "copies from beyond the base")
        #expect(patch([0x91, 2, 3], result: 2) == nil, "makes more than it says")
        #expect(patch([0x91, 2, 3], result: 4) == nil, "makes less than it says")
        #expect(patch([3, 65], result: 3) == nil, "inserts more than there is")
        #expect(patch([0], result: 1) == nil, "the reserved command")
        #expect(patch([0x91], result: 1) == nil, "ends within a command")
        #expect(Delta.resultSize(UnsafeRawBufferPointer(start: nil, count: 0), base: 10) == nil)
    }
}

/// Random numbers that are the same in every run. See: https://prng.di.unimi.it/splitmix64.c
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
