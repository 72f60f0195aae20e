/// Which files of a tree attributes may give another content than their blobs'.
///
/// The answer may name a file too many, never one too few: whoever is named is looked up by libgit2, which takes as long
/// for one path as writing a file.
public enum Conversion: Sendable {
    /// None.
    case none
    /// Every file, since the configuration asks for it.
    case every
    /// Those that a line of an attribute file names together with a converting attribute.
    case matching([AttributePattern])

    /// Whether anything is converted at all.
    public var isNeeded: Bool {
        switch self {
        case .none: false
        case .every: true
        case .matching(let patterns): !patterns.isEmpty
        }
    }

    /// Whether the file's attributes have to be looked up.
    public func mayConvert(_ entry: FlatTree.Entry, in flat: FlatTree) -> Bool {
        switch self {
        case .none: false
        case .every: entry.isFile
        case .matching(let patterns): entry.isFile && patterns.contains { $0.matches(entry, in: flat) }
        }
    }
}

/// The pattern of a line in an attribute file, quoted and negative ones excluded.
/// See: man gitattributes; git `attr.c` (`path_matches`), `dir.c` (`parse_path_pattern`)
public struct AttributePattern: Sendable {
    private let directory: [UInt8]
    private let text: [UInt8]
    private let isForNames: Bool
    private let isForDirectories: Bool

    /// - Parameters:
    ///   - word: the first word of a line.
    ///   - directory: that of the attribute file in the tree; empty for the top and for files outside the tree.
    public init(_ word: Substring, directory: Substring) {
        var text = Array(word.utf8)[...]
        // git matches such a pattern with directories only, and those have no content.
        isForDirectories = text.last == UInt8(ascii: "/")
        isForNames = !text.contains(UInt8(ascii: "/"))
        if text.first == UInt8(ascii: "/") { text = text.dropFirst() }
        self.text = Array(text)
        self.directory = directory.isEmpty ? [] : Array(directory.utf8) + [UInt8(ascii: "/")]
    }

    func matches(_ entry: FlatTree.Entry, in flat: FlatTree) -> Bool {
        if isForDirectories { return false }
        let path = flat.bytes[entry.pathStart..<(entry.pathStart + entry.pathLength)]
        guard path.starts(with: directory) else { return false }
        if isForNames { return Wildmatch.matches(text[...], flat.name(entry), isPath: false) }
        return Wildmatch.matches(text[...], path.dropFirst(directory.count), isPath: true)
    }
}
