import Foundation
import Git
import Registry

/// What a pool holds and how much of it, as `pool.json` beside its slots says.
///
/// One pool for each revision of a repository, as text: `HEAD` of a linked worktree is another than that of the main
/// one. The file is there before the first slot and goes after the last one, so that a crash in between leaves no slot
/// whose repository is unknown.
struct Pool: Codable, Hashable, Sendable {
    static let fileName = "pool.json"

    var version = 1
    /// Where the revision is looked up: a worktree, or a bare repository.
    let repository: String
    let commonDir: String
    /// As it was asked for; nil for HEAD.
    let base: String?
    /// How many slots there shall be.
    var size: Int

    init(_ location: RepositoryLocation, base: String?, size: Int) {
        repository = location.workTree ?? location.gitDir
        commonDir = location.commonDir
        self.base = base
        self.size = size
    }

    /// The name of the pool's directory: which repository, then which revision.
    var name: String { "\(Self.prefix(commonDir))\(shortHash("\(repository)\0\(base ?? "")"))" }

    /// What makes its slots anew, as a command.
    var fillCommand: String {
        "wtengine pool fill --repo \(shellQuoted(repository))" + (base.map { " --base \(shellQuoted($0))" } ?? "")
            + " --size \(size)"
    }

    /// What forgets it, as a command. Not by the worktree, which may be gone.
    var drainCommand: String { "wtengine pool drain --repo \(shellQuoted(RepositoryLocation.name(of: commonDir)))" }

    /// The revision cannot be looked up any more: the repository is gone, or the worktree that the pool was filled from.
    var isGone: Bool { realPath(commonDir) == nil || realPath(repository) == nil }

    /// What the names of all pools of a repository begin with.
    static func prefix(_ commonDir: String) -> String { "\(shortHash(commonDir))-" }

    /// The file of a pool's directory; nil when there is none, or one that is not the directory's own.
    init?(in directory: borrowing Directory, named name: String) {
        guard let text = (try? directory.read(Self.fileName)) ?? nil,
            let pool = try? JSONDecoder().decode(Pool.self, from: Data(text.utf8)), pool.version == 1,
            pool.name == name, pool.commonDir.hasPrefix("/"), (0...Self.limit).contains(pool.size)
        else { return nil }
        self = pool
    }

    var json: String { get throws { try encoded(self) } }

    /// More slots than anybody wants; a size beyond that is a mistake.
    static let limit = 1000
}

/// What a slot is, as `slot.json` beside its ready index says.
///
/// The index lies in the repository's common dir, since a claim moves it into the run's admin entry by one rename.
struct SlotRecord: Codable, Hashable, Sendable {
    static let fileName = "slot.json"

    /// 2 since the rights are in it.
    var version = 2
    /// The slot's name.
    let slot: String
    let pool: String
    let root: String
    let commonDir: String
    /// The tree that was checked out.
    let tree: String
    /// What else decided the bytes and modes of the files; see ``Target/Native/fingerprint``.
    let fingerprint: String
    /// Attributes decided the bytes of some file, so that the difference of two trees does not tell which change.
    let converts: Bool
    /// The boot in which it was filled. Nothing of a slot is synced, so a slot does not outlive a power failure.
    let boot: String
    let identity: FileIdentity
    /// Those of each of its directories.
    let rights: DirectoryRights
    let index: FileVersion

    /// Reads the record of a slot; nil when there is none or it is not that slot's own.
    init?(slot: String, pool: String, root: String, commonDir: String) {
        guard let directory = try? Directory(commonDir).openBeneath(Self.place(slot)),
            let text = (try? directory.read(Self.fileName)) ?? nil,
            let record = try? JSONDecoder().decode(SlotRecord.self, from: Data(text.utf8)), record.version == 2,
            record.slot == slot, record.pool == pool, record.root == root, record.commonDir == commonDir,
            record.boot == ProcessTable.bootID
        else { return nil }
        self = record
    }

    init(
        slot: String, pool: Pool, root: Root, native: Target.Native, identity: FileIdentity, rights: DirectoryRights,
        index: FileVersion
    ) {
        self.slot = slot
        self.pool = pool.name
        self.root = root.path
        commonDir = pool.commonDir
        tree = "\(native.tree)"
        fingerprint = native.fingerprint
        converts = native.conversion.isNeeded
        boot = ProcessTable.bootID
        self.identity = identity
        self.rights = rights
        self.index = index
    }

    /// Whether a checkout for the target would make the very same files.
    func fits(_ native: Target.Native) -> Bool { fingerprint == native.fingerprint && tree == "\(native.tree)" }

    /// Whether the difference of the trees is all that lies between the slot and the target.
    func canBecome(_ native: Target.Native) -> Bool {
        fingerprint == native.fingerprint && !converts && !native.conversion.isNeeded
    }

    var json: String { get throws { try encoded(self) } }

    /// The directory with index and record, below the common dir.
    static func place(_ slot: String) -> String { "\(AdminEntry.privateName)/\(directoryName(slot))" }
    static func directoryName(_ slot: String) -> String { "pool-\(slot)" }

    /// What the names of all slots of a root begin with: several roots may have pools of one repository.
    static func prefix(_ root: Root) -> String { "slot-\(shortHash(root.marker).prefix(8))-" }
    static func newName(_ root: Root) -> String { prefix(root) + randomHex(8) }
    static func leaseName(_ slot: String) -> String { "slot \(slot)" }
}

/// A slot that this process knows.
struct Slot: Sendable {
    let record: SlotRecord
    let pool: Pool
    /// Sees every change since the slot was verified; nil when nobody watches it.
    let watch: SlotWatch?

    var name: String { record.slot }
}

func encoded(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
}

/// Text as the name of a directory: equal in every process, and unlike for unlike texts.
func shortHash(_ text: String) -> String { String(ObjectID.ofBlob(Array(text.utf8)).description.prefix(16)) }
