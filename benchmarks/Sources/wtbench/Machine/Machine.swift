import CBaseline
import Foundation
import Glibc

/// What the figures were taken on.
struct Machine: Codable, Sendable {
    var date: String
    var cpu: String
    var cores: Int
    var memoryBytes: UInt64
    var kernel: String
    var filesystem: String
    var mount: String
    var git: String
    var libgit2: String
    var swift: String
    var wtengine: String
    var loadBefore: String
    var loadAfter: String

    /// Looks around.
    init(directory: String, wtengine: String) async throws {
        date = Date().formatted(.iso8601)
        cpu = Self.field("model name", in: "/proc/cpuinfo") ?? "unknown"
        cores = Self.cores
        memoryBytes = Self.kibibytes("MemTotal")
        var name = utsname()
        uname(&name)
        kernel = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        filesystem = Self.filesystem(directory)
        mount = Self.mount(directory)
        git = try await Self.version(["git", "--version"])
        libgit2 = String(cString: bench_libgit2_version())
        swift = try await Command.run(["sh", "-c", "swift --version 2>/dev/null"]).output.firstLine
        self.wtengine = try await Self.version([wtengine, "--version"])
        loadBefore = Self.load
        loadAfter = loadBefore
    }

    /// How many threads may run at once.
    static var cores: Int { ProcessInfo.processInfo.activeProcessorCount }

    /// 1, 5 and 15 minutes.
    static var load: String {
        (try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8))?.split(separator: " ").prefix(3)
            .joined(separator: " ") ?? "unknown"
    }

    /// Bytes that can be had without swapping.
    static var availableMemory: UInt64 { kibibytes("MemAvailable") }

    private static func version(_ arguments: [String]) async throws -> String {
        try await Command.require(arguments).output.firstLine
    }

    private static func field(_ name: String, in file: String) -> String? {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }),
            let colon = line.firstIndex(of: ":")
        else { return nil }
        return line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }

    private static func kibibytes(_ name: String) -> UInt64 {
        (field(name, in: "/proc/meminfo")?.split(separator: " ").first.flatMap { UInt64($0) } ?? 0) << 10
    }

    /// See: man 2 statfs, and linux/magic.h
    private static func filesystem(_ path: String) -> String {
        let magic = bench_filesystem(path)
        let names: [Int64: String] = [
            0x0102_1994: "tmpfs", 0xef53: "ext4", 0x5846_5342: "xfs", 0x9123_683e: "btrfs", 0x794c_7630: "overlayfs",
            0x2fc1_2fc1: "zfs", 0xf2f5_2010: "f2fs", 0x6969: "nfs", 0xca45_1a4e: "bcachefs", 0x0102_1997: "9p",
        ]
        return names[magic] ?? "0x" + String(magic, radix: 16)
    }

    /// Source and options of the mount that holds a path. See: man 5 proc, mountinfo
    private static func mount(_ path: String) -> String {
        let text = (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)) ?? ""
        var best = (length: 0, text: "unknown")
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 9, let dash = words.firstIndex(of: "-"), dash + 3 < words.count else { continue }
            let point = words[4]
            guard path == point || path.hasPrefix(point == "/" ? "/" : "\(point)/"), point.count >= best.length else {
                continue
            }
            best = (point.count, "\(words[dash + 2]) \(words[5]),\(words[dash + 3])")
        }
        return best.text
    }
}

extension String {
    var firstLine: String { split(whereSeparator: \.isNewline).first.map(String.init) ?? "unknown" }
}
