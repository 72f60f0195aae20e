/// git's own matching of a pattern. See: git `wildmatch.c` (`dowild`)
enum Wildmatch {
    private enum Result { case match, none, abort, abortToStarStar }

    /// - Parameter isPath: `*`, `?` and `[` do not match `/`; `**` between slashes does.
    static func matches(_ pattern: ArraySlice<UInt8>, _ text: ArraySlice<UInt8>, isPath: Bool) -> Bool {
        // Ended by a NUL, as in git: what looks one byte ahead needs no bounds then.
        let pattern = Array(pattern) + [0]
        let text = Array(text) + [0]
        return pattern.withUnsafeBufferPointer { pattern in
            text.withUnsafeBufferPointer { wild(pattern.baseAddress!, $0.baseAddress!, isPath) == .match }
        }
    }

    private typealias Bytes = UnsafePointer<UInt8>

    private static func wild(_ pattern: Bytes, _ start: Bytes, _ isPath: Bool) -> Result {
        var p = pattern
        var text = start
        while p[0] != 0 {
            if text[0] == 0, p[0] != UInt8(ascii: "*") { return .abort }
            switch p[0] {
            case UInt8(ascii: "?"):
                if isPath, text[0] == UInt8(ascii: "/") { return .none }
            case UInt8(ascii: "*"):
                if let result = star(pattern, &p, &text, isPath) { return result }
            case UInt8(ascii: "["):
                guard let isMember = set(&p, text[0]) else { return .abort }
                if !isMember || (isPath && text[0] == UInt8(ascii: "/")) { return .none }
            case UInt8(ascii: "\\"):
                p += 1
                if text[0] != p[0] { return .none }
            default:
                if text[0] != p[0] { return .none }
            }
            text += 1
            p += 1
        }
        return text[0] == 0 ? .match : .none
    }

    /// - Returns: nil when the pattern goes on with the slash that both now stand at.
    private static func star(_ pattern: Bytes, _ p: inout Bytes, _ text: inout Bytes, _ isPath: Bool) -> Result? {
        let slash = UInt8(ascii: "/")
        let first = p
        p += 1
        var matchesSlash = !isPath
        if p[0] == UInt8(ascii: "*") {
            while p[0] == UInt8(ascii: "*") { p += 1 }
            let atStart = first == pattern || (first - 1)[0] == slash
            let atEnd = p[0] == 0 || p[0] == slash || (p[0] == UInt8(ascii: "\\") && p[1] == slash)
            if isPath, atStart, atEnd {
                // `**/` may also stand for nothing.
                if p[0] == slash, wild(p + 1, text, isPath) == .match { return .match }
                matchesSlash = true
            }
        }
        if p[0] == 0 {
            if !matchesSlash, contains(slash, text) { return Result.none }
            return .match
        }
        if !matchesSlash, p[0] == slash {
            while text[0] != slash {
                if text[0] == 0 { return Result.none }
                text += 1
            }
            return nil
        }
        while text[0] != 0 {
            let result = wild(p, text, isPath)
            if result != .none {
                if !matchesSlash || result != .abortToStarStar { return result }
            } else if !matchesSlash, text[0] == slash {
                return .abortToStarStar
            }
            text += 1
        }
        return .abort
    }

    private static func contains(_ byte: UInt8, _ text: Bytes) -> Bool {
        var text = text
        while text[0] != 0 {
            if text[0] == byte { return true }
            text += 1
        }
        return false
    }

    /// Leaves `p` at the closing bracket.
    /// - Returns: whether the byte is in the set; nil for a set that does not end.
    private static func set(_ p: inout Bytes, _ byte: UInt8) -> Bool? {
        p += 1
        let isNegated = p[0] == UInt8(ascii: "!") || p[0] == UInt8(ascii: "^")
        if isNegated { p += 1 }
        var previous: UInt8 = 0
        var current = p[0]
        var isMatched = false
        repeat {
            if current == 0 { return nil }
            if current == UInt8(ascii: "\\") {
                p += 1
                current = p[0]
                if current == 0 { return nil }
                if byte == current { isMatched = true }
            } else if current == UInt8(ascii: "-"), previous != 0, p[1] != 0, p[1] != UInt8(ascii: "]") {
                p += 1
                current = p[0]
                if current == UInt8(ascii: "\\") {
                    p += 1
                    current = p[0]
                    if current == 0 { return nil }
                }
                if byte <= current, byte >= previous { isMatched = true }
                current = 0
            } else if current == UInt8(ascii: "["), p[1] == UInt8(ascii: ":") {
                var end = p + 2
                while end[0] != 0, end[0] != UInt8(ascii: "]") { end += 1 }
                if end[0] == 0 { return nil }
                let length = end - p - 3
                if length < 0 || (end - 1)[0] != UInt8(ascii: ":") {
                    if byte == current { isMatched = true }
                } else {
                    let name = String(decoding: UnsafeBufferPointer(start: p + 2, count: length), as: UTF8.self)
                    guard let isMember = isMember(byte, of: name) else { return nil }
                    if isMember { isMatched = true }
                    p = end
                    current = 0
                }
            } else if byte == current {
                isMatched = true
            }
            previous = current
            p += 1
            current = p[0]
        } while current != UInt8(ascii: "]")
        return isMatched != isNegated
    }

    /// The classes of ASCII; nil for a name that is none.
    private static func isMember(_ byte: UInt8, of name: String) -> Bool? {
        let isUpper = (0x41...0x5A).contains(byte)
        let isLower = (0x61...0x7A).contains(byte)
        let isDigit = (0x30...0x39).contains(byte)
        let isGraph = (0x21...0x7E).contains(byte)
        return switch name {
        case "alnum": isUpper || isLower || isDigit
        case "alpha": isUpper || isLower
        case "blank": byte == 0x20 || byte == 0x09
        case "cntrl": byte < 0x20 || byte == 0x7F
        case "digit": isDigit
        case "graph": isGraph
        case "lower": isLower
        case "print": isGraph || byte == 0x20
        case "punct": isGraph && !(isUpper || isLower || isDigit)
        case "space": byte == 0x20 || (0x09...0x0D).contains(byte)
        case "upper": isUpper
        case "xdigit": isDigit || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
        default: nil
        }
    }
}
