/// Text as one word of a POSIX shell.
package func shellQuoted(_ text: String) -> String {
    let isPlain =
        !text.isEmpty
        && text.utf8.allSatisfy { byte in
            byte.isASCIIAlphanumeric || "/._-+=:,@%".utf8.contains(byte)
        }
    return isPlain ? text : "'\(text.replacing("'", with: "'\\''"))'"
}

extension UInt8 {
    fileprivate var isASCIIAlphanumeric: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
}
