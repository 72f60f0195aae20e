import CLibGit2
import Glibc

/// The name of a git object: 20 bytes of SHA-1.
public struct ObjectID: Hashable, Sendable, CustomStringConvertible {
    typealias Bytes = (
        UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8,
        UInt8, UInt8, UInt8, UInt8
    )
    var raw: git_oid

    init(_ raw: git_oid) { self.raw = raw }

    /// Copies 20 bytes, for example out of a tree object.
    init(bytes: UnsafeRawPointer) {
        raw = git_oid()
        withUnsafeMutableBytes(of: &raw.id) { $0.copyMemory(from: UnsafeRawBufferPointer(start: bytes, count: 20)) }
    }

    /// Parses 40 hexadecimal digits; nil for anything else.
    ///
    /// What is no digit is found here: `git_oid_fromstr` would note an error, which crashes before libgit2 is started.
    public init?(_ hex: String) {
        guard hex.utf8.count == 40, hex.utf8.allSatisfy({ isxdigit(Int32($0)) != 0 }) else { return nil }
        raw = git_oid()
        guard git_oid_fromstr(&raw, hex) == 0 else { return nil }
    }

    /// The name that git gives to a blob of these bytes. Needs no repository.
    public static func ofBlob(_ bytes: [UInt8]) -> ObjectID {
        Libgit2.start
        var id = git_oid()
        let code = bytes.withUnsafeBytes { git_odb_hash(&id, $0.baseAddress, $0.count, GIT_OBJECT_BLOB) }
        precondition(code == 0, "hashing memory cannot fail")
        return ObjectID(id)
    }

    /// 40 hexadecimal digits.
    public var description: String {
        withUnsafeBytes(of: raw.id) { bytes in
            let digits = Array("0123456789abcdef".utf8)
            return String(unsafeUninitializedCapacity: 40) { out in
                for (index, byte) in bytes.enumerated() {
                    out[2 * index] = digits[Int(byte >> 4)]
                    out[2 * index + 1] = digits[Int(byte & 15)]
                }
                return 40
            }
        }
    }

    /// The same object.
    public static func == (a: ObjectID, b: ObjectID) -> Bool {
        withUnsafePointer(to: a.raw) { a in withUnsafePointer(to: b.raw) { git_oid_equal(a, $0) == 1 } }
    }

    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) {
        withUnsafeBytes(of: raw.id) { hasher.combine(bytes: $0) }
    }
}
