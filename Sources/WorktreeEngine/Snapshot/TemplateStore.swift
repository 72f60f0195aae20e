import CLinux
import Foundation
import Git
import Glibc
import Registry
import SystemPackage

/// What a template is, as `template.json` in its directory says.
struct TemplateRecord: Codable, Hashable, Sendable {
    static let fileName = "template.json"
    static let prefix = "template-"

    var version = 1
    let commonDir: String
    let tree: String
    /// What else decided the bytes and modes of the files; see ``Target/Native/fingerprint``.
    let fingerprint: String
    /// The boot in which it was made. Nothing of a template is synced, so none outlives a power failure.
    let boot: String
    /// The read-only subvolume.
    let files: FileIdentity
    let index: FileVersion

    /// The name of a template's directory, in the stage and in the store: which repository, then which files.
    static func name(_ commonDir: String, _ native: Target.Native) -> String {
        "\(prefix(commonDir))\(shortHash("\(native.tree) \(native.fingerprint)"))"
    }

    /// What the names of all templates of a repository begin with.
    static func prefix(_ commonDir: String) -> String { "\(prefix)\(shortHash(commonDir))-" }

    init?(in directory: borrowing Directory) {
        guard let text = (try? directory.read(Self.fileName)) ?? nil,
            let record = try? JSONDecoder().decode(TemplateRecord.self, from: Data(text.utf8)), record.version == 1,
            record.boot == ProcessTable.bootID
        else { return nil }
        self = record
    }

    init(_ commonDir: String, _ native: Target.Native, files: FileIdentity, index: FileVersion) {
        self.commonDir = commonDir
        tree = "\(native.tree)"
        fingerprint = native.fingerprint
        boot = ProcessTable.bootID
        self.files = files
        self.index = index
    }

    func fits(_ commonDir: String, _ native: Target.Native) -> Bool {
        self.commonDir == commonDir && tree == "\(native.tree)" && fingerprint == native.fingerprint
    }
}

/// The templates of a root: `<root>/.wtengine/templates/<name>/` holds a checkout in a read-only subvolume, the index of
/// it, and what it is of. The filesystem is the truth: a template is there when its directory is.
struct TemplateStore: Sendable {
    let root: Root
    let state: String

    /// Templates of a repository beyond this number go, the least recently used first.
    private static let most = 3
    /// A template that nobody has used for so long goes at the next sweep.
    private static let longestRest: Int = 7 * 24 * 3600

    private func open() throws -> Directory { try root.openPrivate("templates") }

    func mayHaveSubvolumes() throws -> Bool {
        // Named, since a descriptor does not keep its directory open.
        let top = try root.open()
        return linux_btrfs_id(top.descriptor) != 0
    }

    /// Snapshots a template into the stage of a run, and begins the staged admin entry with its index.
    /// - Returns: false when there is no template.
    func snapshot(_ run: Run, _ native: Target.Native) throws -> Bool {
        let templates = try open()
        let name = TemplateRecord.name(run.commonDir, native)
        guard let template = try? templates.open(name), let record = TemplateRecord(in: template),
            record.fits(run.commonDir, native), let files = try? template.open("files"), Subvolume.isReadOnly(files),
            try files.identity() == record.files, try template.fileVersion("index") == record.index
        else { return false }
        // The order in which they go is that of their last use.
        utimensat(templates.descriptor, name, nil, AT_SYMLINK_NOFOLLOW)
        let stage = try root.openPrivate("stage")
        do throws(SystemError) { try Subvolume.snapshot(files, as: run.adminID, in: stage) } catch {
            // Another process has just removed it.
            if error.errno == .noSuchFileOrDirectory { return false }
            throw error
        }
        let adminStage = try Directory(AdminEntry.makeStage(run))
        try template.copy("index", to: adminStage)
        // A snapshot keeps inode numbers and ctimes.
        if try template.contains(DirectoryTimes.fileName) { try template.copy(DirectoryTimes.fileName, to: adminStage) }
        return true
    }

    /// Makes a template. Blocks.
    /// - Returns: nil where the filesystem has no subvolumes, or while another process makes the same template; else
    ///   the names of others that went to the trash for it, for the caller to unlink.
    func make(_ commonDir: String, _ native: Target.Native, _ checkout: () throws -> Checkout) throws -> [String]? {
        let name = TemplateRecord.name(commonDir, native)
        guard let lease = try Lease(ifFree: name, state: state) else { return nil }
        defer { lease.release() }
        let stage = try root.openPrivate("stage")
        try TreeDeletion.delete(name, in: stage)
        try stage.makeDirectory(name, mode: 0o700)
        do {
            let template = try stage.open(name)
            guard try Subvolume.make("files", in: template) else {
                try TreeDeletion.delete(name, in: stage)
                return nil
            }
            let checkout = try checkout()
            let filled = try checkout.fill("\(template.path)/files")
            try template.createIndex(of: checkout, filled)
            let files = try template.open("files")
            try Subvolume.setReadOnly(files)
            let record = TemplateRecord(
                commonDir, native, files: try files.identity(), index: try template.fileVersion("index"))
            try template.create(TemplateRecord.fileName, try encoded(record))
            // One that did not serve stands in the way.
            let useless = try discardHeld(name)
            try stage.rename(name, to: open(), as: name)
            return try (useless.map { [$0] } ?? []) + removeExcess(commonDir)
        } catch {
            let failure = error
            try TreeDeletion.delete(name, in: stage)
            throw failure
        }
    }

    // MARK: Removing

    /// Moves templates of the repository beyond the most to the trash.
    /// - Returns: their names there, for the caller to unlink.
    private func removeExcess(_ commonDir: String) throws -> [String] {
        let templates = try open()
        let names = try templates.entries().map(\.name).filter { $0.hasPrefix(TemplateRecord.prefix(commonDir)) }
        guard names.count > Self.most else { return [] }
        let byUse = try names.map { (name: $0, used: try templates.fileVersion($0).modified) }
            .sorted { $0.used.lexicographicallyPrecedes($1.used) }
        return try byUse.dropLast(Self.most).compactMap { try discard($0.name) }
    }

    /// Moves templates to the trash whose repository is gone, that are of an earlier boot, damaged, or long unused.
    /// - Returns: their names there, for the caller to unlink.
    func removeUseless() throws -> [String] {
        guard let templates = try root.existingPrivate("templates") else { return [] }
        let now = time(nil)
        return try templates.entries().map(\.name).compactMap { name in
            if let template = try? templates.open(name), let record = TemplateRecord(in: template),
                access(record.commonDir, F_OK) == 0,
                try templates.fileVersion(name).modified[0] > now - Self.longestRest
            {
                return nil
            }
            return try discard(name)
        }
    }

    /// Moves the templates of a repository, or all, to the trash; not those that are being made at this moment.
    /// - Returns: their names there, for the caller to unlink.
    func removeAll(of commonDir: String?) throws -> [String] {
        let prefix = commonDir.map(TemplateRecord.prefix) ?? ""
        guard let templates = try root.existingPrivate("templates") else { return [] }
        return try templates.entries().map(\.name).filter { $0.hasPrefix(prefix) }.compactMap(discard)
    }

    private func discard(_ name: String) throws -> String? {
        guard let lease = try Lease(ifFree: name, state: state) else { return nil }
        defer { lease.release() }
        return try discardHeld(name)
    }

    /// The caller holds the lease.
    private func discardHeld(_ name: String) throws -> String? {
        let templates = try open()
        guard try templates.contains(name) else { return nil }
        let trashed = "\(name)-\(randomHex(4))"
        try templates.rename(name, to: root.openPrivate("trash"), as: trashed)
        return trashed
    }
}
