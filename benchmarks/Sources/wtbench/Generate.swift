import Foundation

/// Makes a repository like those that people work in: many small files and a few large ones (sizes are log-normal),
/// nested directories, text that compresses, some executables and symbolic links, and several commits, so that the pack
/// holds deltas. The same count gives the same repository, to the byte of each object.
struct Generator {
    private var random: SplitMix64
    private let files: Int
    private var output: [UInt8] = []
    private var paths: [String] = []
    private var mark = 0

    init(files: Int) {
        self.files = files
        random = SplitMix64(state: 0x5eed_0001 &+ UInt64(files))
    }

    /// Makes it at `path`, packed.
    static func make(files: Int, at path: String) async throws {
        guard files > 0, files <= 1_000_000 else {
            throw Failure("--generate takes a number of files from 1 to 1000000, not \(files).")
        }
        let stream = "\(path).fast-import"
        defer { try? FileManager.default.removeItem(atPath: stream) }
        guard FileManager.default.createFile(atPath: stream, contents: nil),
            let file = FileHandle(forWritingAtPath: stream)
        else { throw Failure(errno: "open", stream) }
        var generator = Generator(files: files)
        try generator.write(to: file)
        try file.close()
        try await Command.require(["git", "init", "--quiet", "--initial-branch=main", path])
        let git = ["git", "-C", path, "-c", "pack.threads=0"]
        try await Command.require(git + ["fast-import", "--quiet"], input: stream)
        try await Command.require(git + ["repack", "-a", "-d", "-f", "-q", "--window=10", "--depth=50"])
    }

    private mutating func write(to file: FileHandle) throws {
        makePaths()
        for (index, path) in paths.enumerated() {
            blob(content(of: path))
            if index % 512 == 511 { try flush(to: file) }
        }
        commit(1, changes: paths.enumerated().map { index, path in "M \(mode(path)) :\(index + 1) \(path)" })
        for number in 2...5 {
            // The same lines with another one among them: what a delta is good for.
            let changed = (0..<max(1, files / 50)).map { _ in paths[Int(random.next(below: UInt64(files)))] }
            var changes: [String] = []
            for path in Set(changed).sorted() where mode(path) != "120000" {
                blob(content(of: path, edition: number))
                changes.append("M \(mode(path)) :\(mark) \(path)")
            }
            commit(number, changes: changes)
            try flush(to: file)
        }
        try flush(to: file)
    }

    /// Directories of about a dozen files, three to six deep.
    private mutating func makePaths() {
        let areas = ["Sources", "lib", "test/fixtures", "docs", "app/models", "src/main", "tools", "vendor/core"]
        let suffixes = ["swift", "c", "h", "md", "js", "json", "rb", "txt"]
        var directory = ""
        for index in 0..<files {
            if index % 12 == 0 {
                let area = areas[index / 12 % areas.count]
                let group = index / 12 / areas.count
                directory = "\(area)/\(Self.words[group / 24 % 64])\(group / 24)/\(Self.words[group % 24])"
            }
            // One in 200 is a link, one in 50 may be executed.
            let kind = index % 200 == 199 ? "ln" : index % 50 == 49 ? "sh" : suffixes[index % suffixes.count]
            paths.append("\(directory)/\(Self.words[Int(random.next(below: 64))])_\(index).\(kind)")
        }
    }

    private func mode(_ path: String) -> String {
        path.hasSuffix(".ln") ? "120000" : path.hasSuffix(".sh") ? "100755" : "100644"
    }

    private func content(of path: String, edition: Int = 1) -> [UInt8] {
        if path.hasSuffix(".ln") { return Array("../\(Self.words[path.utf8.count % 64])".utf8) }
        // A generator of its own for each file: an edition has the lines of the one before.
        var random = SplitMix64(state: path.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
        // Median 1.6 KB, mean about 4 KB; one in 2,000 is a large one.
        let isLarge = random.next(below: 2000) == 0
        let size = isLarge ? 1 << 20 : min(256 << 10, Int(exp(7.4 + 1.4 * random.normal())))
        var text: [UInt8] = []
        text.reserveCapacity(size + 160)
        while text.count < size {
            let depth = Int(random.next(below: 4))
            text += repeatElement(UInt8(ascii: " "), count: depth * 4)
            for _ in 0..<(3 + random.next(below: 7)) {
                text += Self.bytes[Int(random.next(below: 64))]
                // Names and numbers that occur once keep the text from compressing better than source code does.
                if random.next(below: 4) == 0 { text += String(random.next(below: 1 << 20), radix: 36).utf8 }
                text.append(UInt8(ascii: " "))
            }
            text.append(UInt8(ascii: "\n"))
        }
        if edition > 1 { text += "edition \(edition)\n".utf8 }
        return text
    }

    private mutating func blob(_ content: [UInt8]) {
        mark += 1
        output += "blob\nmark :\(mark)\ndata \(content.count)\n".utf8
        output += content
        output.append(UInt8(ascii: "\n"))
    }

    private mutating func commit(_ number: Int, changes: [String]) {
        let message = "commit \(number)\n"
        output += "commit refs/heads/main\ncommitter b <b@b> \(1_700_000_000 + number) +0000\n".utf8
        output += "data \(message.utf8.count)\n\(message)".utf8
        for change in changes { output += "\(change)\n".utf8 }
        output.append(UInt8(ascii: "\n"))
    }

    private mutating func flush(to file: FileHandle) throws {
        try file.write(contentsOf: output)
        output.removeAll(keepingCapacity: true)
    }

    private static let words = """
        return value index guard import struct public static string result error buffer length offset parent entry \
        directory repository commit branch worker handle reader writer state event queue token signal cache stream \
        header footer layout render widget request response session account policy filter mapper factory service \
        client server socket packet vector matrix graph node edge color frame image sound model schema theme column \
        field record
        """.split(separator: " ").map(String.init)
    private static let bytes = words.map { Array($0.utf8) }
}

/// See: Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014)
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }

    mutating func next(below limit: UInt64) -> UInt64 { next() % limit }

    /// Standard normal. See: Box, Muller (1958)
    mutating func normal() -> Double {
        let first = Double(next() >> 11 | 1) / 0x1p53
        let second = Double(next() >> 11) / 0x1p53
        return (-2 * log(first)).squareRoot() * cos(2 * .pi * second)
    }
}
