import CLinux
import Glibc
import Settings
import SystemPackage
public import WorktreeEngine

import struct Foundation.Data
import class Foundation.JSONDecoder
import class Foundation.JSONEncoder

/// The directory in which a Lead and the worker of one run speak to each other, beside the workdir and never in it:
/// the order lies there before the worker starts, and the worker leaves its result there.
///
/// It is `<packs>/<issue>/<run>`, named as workdirs are, so that it is found from the run alone. What the worker puts
/// there is trusted in nothing. Methods block: call them away from the cooperative pool.
public struct ContextPack: Sendable, Hashable {
    static let orderName = "work_order.json"
    static let specName = "spec.md"
    static let resultName = "work_result.json"
    static let textResultName = "work_result.txt"

    /// The run.
    public let run: RunKey
    private let parent: String

    /// The pack of a run, whether it exists or not.
    /// - Parameter packs: the directory of all packs, an absolute path, for example `packs` in the state directory.
    public init(run: RunKey, in packs: String) {
        self.run = run
        parent = "\(packs)/\(run.issue.pathComponent)"
    }

    /// The directory.
    public var directory: String { "\(parent)/\(run.run)" }
    /// The order, a ``WorkOrder``.
    public var orderPath: String { "\(directory)/\(Self.orderName)" }
    /// The text of the issue as it was when the pack was written.
    public var specPath: String { "\(directory)/\(Self.specName)" }
    /// Where the worker puts its result as JSON.
    public var resultPath: String { "\(directory)/\(Self.resultName)" }
    /// Where it puts its result as text, if it would rather do that.
    public var textResultPath: String { "\(directory)/\(Self.textResultName)" }

    /// Writes the pack of a run: for its owner only, and by one rename, so that no half of it is ever seen.
    ///
    /// It is for the time before the worker begins. So a pack of this name that is there already is a Lead's that was
    /// killed in between, or somebody else's who has guessed the name; it is removed, with whatever result lies in it.
    /// - Parameters:
    ///   - spec: the text of the issue.
    ///   - packs: the directory of all packs, an absolute path; made when it is missing.
    /// - Throws: ``EngineError``: the disk is full, or the packs lie in the workdir.
    public static func write(order: WorkOrder, spec: String, in packs: String) throws(EngineError) -> ContextPack {
        guard packs.hasPrefix("/") else {
            throw EngineError(.invalidInput, .retry, "\(packs.debugDescription) is not an absolute path.")
        }
        let pack = ContextPack(run: order.key, in: packs)
        let workdir = realPath(order.repoDir) ?? order.repoDir
        guard !isInside(realPath(packs) ?? packs, workdir) else {
            throw EngineError(
                .pathNested, .needsHuman,
                "the context packs \(packs) lie in the workdir \(workdir), where they would count as the worker's own "
                    + "files. Use another state directory or root.")
        }
        let files = [(name: orderName, text: try encoded(order)), (name: specName, text: spec)]
        let name = order.run.description
        if try WholeDirectory.create(name, in: pack.parent, files: files) { return pack }
        try pack.remove()
        guard try WholeDirectory.create(name, in: pack.parent, files: files) else {
            throw EngineError(
                .pack, .needsHuman,
                "\(pack.directory) comes back when it is removed, and is not this Lead's. Look which process makes it.")
        }
        return pack
    }

    private static func encoded(_ order: WorkOrder) throws(EngineError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do { return String(decoding: try encoder.encode(order), as: UTF8.self) + "\n" } catch {
            throw .wrap(error, "writing the work order of run \(order.key)")
        }
    }

    /// The order; nil when there is none that can be read.
    public func order() -> WorkOrder? {
        guard let text = try? TextFile.read(orderPath, followsLinks: false) else { return nil }
        return try? JSONDecoder().decode(WorkOrder.self, from: Data(text.utf8))
    }

    /// What the worker left; nil when it left nothing.
    ///
    /// When both forms are there they must say the same, and the JSON form is returned. One that is of another run
    /// takes nothing from the other.
    /// - Throws: ``WorkResultError``.
    public func result() throws(WorkResultError) -> WorkResult? {
        // By descriptor, since the worker may put a link in the directory's place.
        let descriptor = linux_open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            let reason = Errno(rawValue: errno)
            throw WorkResultError(
                .unreadable, "the context pack \(directory) cannot be opened: \(reason). Somebody has replaced it.")
        }
        defer { close(descriptor) }
        var stale: WorkResultError?
        func form(
            _ name: String, _ parse: (String) throws(WorkResultError) -> WorkResult
        ) throws(WorkResultError) -> WorkResult? {
            do throws(WorkResultError) {
                guard let file = try read(name, in: descriptor) else { return nil }
                return try parse(file)
            } catch {
                guard error.kind == .stale else { throw error }
                stale = error
                return nil
            }
        }
        let text = try form(Self.textResultName) { file throws(WorkResultError) in
            try WorkResult(text: file, path: textResultPath, expecting: run)
        }
        let json = try form(Self.resultName) { file throws(WorkResultError) in
            try WorkResult(json: file, path: resultPath, expecting: run)
        }
        if let json, let text, let key = json.contradiction(to: text) {
            throw WorkResultError(
                .contradictory,
                "\(resultPath) and \(textResultPath) name another \(key). Which one is meant has to be "
                    + "decided by a person.")
        }
        if let result = json ?? text { return result }
        if let stale { throw stale }
        return nil
    }

    private func read(_ name: String, in descriptor: CInt) throws(WorkResultError) -> String? {
        do { return try TextFile.read(name, in: descriptor, limit: WorkResult.sizeLimit, followsLinks: false) } catch {
            throw WorkResultError(.unreadable, "\(directory)/\(name) \(error)")
        }
    }

    /// Removes the pack with everything in it. One that does not exist is no error.
    /// - Throws: ``EngineError``; another call goes on where this one stopped.
    public func remove() throws(EngineError) { try WholeDirectory.remove(run.run.description, in: parent) }
}
