import Foundation
import Git
import TestSupport
import Testing

/// Runs a shell script.
@discardableResult
func sh(_ script: String, in directory: String) async throws -> String {
    try await run(["sh", "-ec", script], in: directory)
}

/// Runs a shell script and returns its output as bytes.
func bytes(_ script: String, in directory: String) async throws -> [UInt8] {
    let hex = try await sh("{ \(script); } | od -An -v -tx1", in: directory)
    return hex.split(whereSeparator: \.isWhitespace).map { UInt8($0, radix: 16)! }
}

/// Makes a tree object of `printf` lines for `git mktree`; `$B` is a blob and `$T` a tree.
func makeTree(_ lines: String, in directory: String, options: String = "") async throws -> String {
    let format = lines.replacingOccurrences(of: "$B", with: "'$B'").replacingOccurrences(of: "$T", with: "'$T'")
    return String(
        try await sh(
            """
            B=$(echo x | git hash-object -w --stdin); T=$(printf "100644 blob $B\\tf\\n" | git mktree)
            printf '\(format)' | git mktree \(options)
            """, in: directory
        ).prefix(40))
}

/// Compares a flattened tree with `git ls-tree`.
func expectSameListing(_ revision: String, in directory: String) async throws {
    let handle = try Repository(gitDirectory: "\(directory)/.git")
    let id = try await sh("git rev-parse '\(revision)^{tree}'", in: directory)
    let flat = try handle.flatten(tree: try #require(ObjectID(String(id.prefix(40)))))
    var listed: [UInt8] = []
    for entry in flat.entries {
        let mode = String(entry.mode, radix: 8)
        let kind = entry.isSubmodule ? "commit" : "blob"
        listed += Array("\(mode) \(kind) \(entry.id)\t".utf8) + flat.cPath(entry).map { UInt8(bitPattern: $0) }
    }
    #expect(try await bytes("git ls-tree -r -z '\(revision)'", in: directory) == listed)
}
