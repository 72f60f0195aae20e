import CLibGit2

/// Reads objects as fast as they can be read: out of the packs directly, and through libgit2 what is not there.
///
/// One for each thread; the packs may be shared.
public struct ObjectReader: ~Copyable {
    private let commonDir: String
    private var packs: PackReader?
    private var repository: Repository?

    /// Opens nothing but a decompressor.
    public init(commonDir: String, packs: PackSet) {
        self.commonDir = commonDir
        self.packs = PackReader(packs)
    }

    /// Where the packs have an object; nil when it has to be looked for elsewhere. To ask for many in a row takes a fraction
    /// of the time that it takes between writes, each of which leaves the processor's caches with other things.
    public func place(of id: ObjectID) -> PackPlace? { packs?.place(of: id) ?? nil }

    /// Gives the bytes of a blob to `body`; they are valid during the call only.
    /// - Parameter place: what ``place(of:)`` of this reader has said, or nil.
    /// - Throws: ``GitError``, also for an object of another type, since a tree may name anything as a file; or what
    ///   `body` throws.
    public mutating func withBlob<T>(
        _ id: ObjectID, at place: PackPlace? = nil, _ body: (UnsafeRawBufferPointer) throws -> T
    ) throws -> T {
        try withObject(id, as: .blob, at: place, body)
    }

    mutating func withObject<T>(
        _ id: ObjectID, as kind: PackReader.Kind, at place: PackPlace? = nil,
        _ body: (UnsafeRawBufferPointer) throws -> T
    ) throws -> T {
        if let object = packs?.read(id, at: place), object.kind == kind { return try body(object.bytes) }
        // Loose, newer than our list of packs, damaged, of another type, or missing: libgit2 finds it, or the words.
        if repository == nil { repository = try Repository(gitDirectory: commonDir) }
        return try repository!.read(id, as: kind == .blob ? GIT_OBJECT_BLOB : GIT_OBJECT_TREE, body)
    }

    /// Forgets the handle of libgit2, so that the next read sees packs that have come since.
    public mutating func reopen() { repository = nil }
}
