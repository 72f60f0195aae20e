import Git

/// What an engine remembers of the trees that it has read, since runs mostly begin at the same commit.
struct KnownTrees {
    struct Tree {
        let attributes: Support.Attributes
        /// Its files; nil when there was no room for them.
        var flat: FlatTree?
    }

    private var trees: [String: Tree] = [:]
    /// How many files are remembered, of all trees.
    private var files = 0

    private static let mostTrees = 1000
    /// A file takes about 120 bytes, so this is some 30 MB.
    private static let mostFiles = 1 << 18

    /// - Parameter key: repository, settings and tree: all that decides the answer.
    subscript(key: String) -> Tree? { trees[key] }

    mutating func remember(_ attributes: Support.Attributes, _ flat: FlatTree, _ key: String) {
        if trees.count >= Self.mostTrees { self = KnownTrees() }
        let count = flat.entries.count
        if files + count > Self.mostFiles {
            for key in trees.keys { trees[key]?.flat = nil }
            files = 0
        }
        let hasRoom = count <= Self.mostFiles
        // Two that have read the same tree at once: the second replaces the first.
        files -= trees[key]?.flat?.entries.count ?? 0
        trees[key] = Tree(attributes: attributes, flat: hasRoom ? flat : nil)
        if hasRoom { files += count }
    }
}
