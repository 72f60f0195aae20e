import Dispatch
import Git
import Glibc
public import Logging
public import Registry
import Synchronization

public import struct Foundation.Date
public import class Foundation.ProcessInfo

/// Gives every run of an agent a clean workdir of its own, and takes it back without losing work.
///
/// One engine per state directory and process is enough; any number of engines and processes may share a state
/// directory and repositories. Every method may be called from any task. None blocks the cooperative pool.
public final class Engine: Sendable {
    /// As given to ``open(_:logger:)``.
    public let configuration: Configuration
    /// The log of what the engine does beside the audit log; never holds file contents.
    public let logger: Logger
    package let registry: Registry
    let git: GitProcess
    private let actors = Mutex<[String: RepositoryActor]>([:])
    let unlinking = Mutex<[Task<Bool, Never>]>([])
    let warm = WarmPool()
    let sharedCheckouts = SharedCheckouts()
    let templates = Mutex<[String: Task<Bool, any Error>]>([:])
    let background = Background()
    let trees = Mutex(KnownTrees())
    let contents: ContentCache
    let metrics = EngineMetrics()

    private init(_ configuration: Configuration, _ registry: Registry, _ logger: Logger) {
        self.configuration = configuration
        self.registry = registry
        self.logger = logger
        git = GitProcess(timeout: configuration.gitTimeout)
        contents = ContentCache(limit: Int(clamping: configuration.checkoutMemory))
    }

    /// Opens the registry of a state directory; makes both when they are missing.
    ///
    /// Touches no repository and no root, and does not start libgit2. Metrics go to the factory that
    /// `MetricsSystem.factory` gives now, so bootstrap it first.
    /// - Throws: ``EngineError`` with ``EngineError/Code/registryCorrupt``, ``EngineError/Code/registryNewer``,
    ///   ``EngineError/Code/registryReadOnly`` or ``EngineError/Code/configuration``.
    public static func open(
        _ configuration: Configuration, logger: Logger = Logger(label: "wtengine")
    ) async throws(EngineError) -> Engine {
        try await catching("opening \(configuration.state)") {
            var configuration = configuration
            configuration.state = try prepareState(configuration.state)
            for root in configuration.roots where !root.hasPrefix("/") {
                throw EngineError(
                    .configuration, .needsHuman, "the root \(root.debugDescription) is not an absolute path.")
            }
            let actor = configuration.actor ?? defaultActor
            let path = configuration.registryPath
            let registry = try await blocking { try Registry(path: path, actor: actor) }
            return Engine(configuration, registry, logger)
        }
    }

    // MARK: Reading

    /// Runs that match every given condition, oldest first.
    /// - Parameter repository: a path in the repository.
    /// - Throws: ``EngineError``.
    public func runs(
        repository: String? = nil, issue: IssueRef? = nil, state: RunState? = nil
    ) async throws(EngineError) -> [Run] {
        try await Self.catching("list") {
            let commonDir = try repository.map { try RepositoryLocation.find($0).commonDir }
            return try await self.registry.runs(commonDir: commonDir, issue: issue, states: state.map { [$0] })
        }
    }

    /// One run.
    /// - Throws: ``EngineError/Code/unknownRun``.
    public func run(_ key: RunKey) async throws(EngineError) -> Run {
        try await Self.catching("show \(key)") {
            guard let run = try await self.registry.run(key) else { throw RegistryError.unknownRun(key) }
            return run
        }
    }

    /// The run whose workdir holds `path`; nil when it lies in none.
    /// - Throws: ``EngineError``.
    public func run(containing path: String) async throws(EngineError) -> Run? {
        try await Self.catching("which \(path)") {
            var directory = realPath(path) ?? path
            while directory.hasPrefix("/"), directory != "/", let slash = directory.lastIndex(of: "/") {
                if let run = try await self.registry.run(atPath: directory), run.state != .removed { return run }
                directory = String(directory[..<slash])
            }
            return nil
        }
    }

    /// Audit rows that match every given condition, oldest first.
    /// - Throws: ``EngineError``.
    public func audit(
        issue: IssueRef? = nil, run: RunID? = nil, since: Date? = nil
    ) async throws(EngineError) -> [AuditEvent] {
        try await Self.catching("audit") { try await self.registry.audit(issue: issue, run: run, since: since) }
    }

    // MARK: Parts

    /// The actor of a repository that this engine has worked on.
    func knownActor(for commonDir: String) -> RepositoryActor? { actors.withLock { $0[commonDir] } }

    func actor(for commonDir: String) -> RepositoryActor {
        actors.withLock { actors in
            if let known = actors[commonDir] { return known }
            let made = RepositoryActor(commonDir: commonDir)
            actors[commonDir] = made
            return made
        }
    }

    /// The root that takes new workdirs.
    func rootForSpawn() async throws -> Root {
        let isDefault = configuration.roots.isEmpty
        let path = configuration.roots.first ?? "\(configuration.state)/workdirs"
        // Before anything is made in it: a refusal leaves no file in somebody's worktree.
        if let outer = RepositoryLocation.worktree(above: realPath(path) ?? configuration.state) {
            throw EngineError(
                .pathNested, .blocked,
                "the root \(path) lies inside the worktree \(outer), where git would take workdirs for its files. Name a "
                    + "root outside of it in config.toml, or another state directory with --state.")
        }
        return try await Root.prepare(path, make: isDefault, registry: registry)
    }

    /// The root of an existing run. It must still be allowlisted: what the configuration no longer names is not touched.
    func root(of run: Run) async throws -> Root {
        let allowed = configuration.roots.isEmpty ? ["\(configuration.state)/workdirs"] : configuration.roots
        guard allowed.contains(where: { $0 == run.root || realPath($0) == run.root }) else {
            throw EngineError(
                .root, .needsHuman,
                "the root \(run.root) of run \(run.key) is not in `roots` of the configuration (\(allowed.joined(separator: ", "))), "
                    + "so nothing below it is touched. Add it there to go on.")
        }
        // It is used as the name of an entry in the stage and the trash.
        guard (try? RunID(run.adminID)) != nil else {
            throw EngineError(
                .identity, .needsHuman,
                "\(run.adminID.debugDescription) of run \(run.key) is not the name of an admin entry.")
        }
        let root = try await Root.prepare(run.root, make: false, registry: registry)
        guard root.path == run.root else {
            throw EngineError(
                .root, .blocked,
                "the root \(run.root) of run \(run.key) is a symbolic link to \(root.path) now. Nothing below it is "
                    + "taken for gone. Move it back.")
        }
        return root
    }

    /// Threads that write the files of one workdir.
    var checkoutWorkers: Int { configuration.checkoutWorkers ?? min(8, ProcessInfo.processInfo.activeProcessorCount) }

    /// The choke point of every public method.
    package static func catching<T: Sendable>(
        _ context: String, _ body: () async throws -> T
    ) async throws(EngineError) -> T {
        do { return try await body() } catch { throw .wrap(error, context) }
    }

    private static func prepareState(_ path: String) throws -> String {
        guard path.hasPrefix("/") else {
            throw EngineError(
                .configuration, .needsHuman, "the state directory \(path.debugDescription) is not an absolute path.")
        }
        try makeDirectories(path)
        guard let real = realPath(path) else {
            throw EngineError(.configuration, .needsHuman, "the state directory \(path) cannot be read.")
        }
        return real
    }

    private static var defaultActor: String {
        let name = getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "\(geteuid())"
        return "\(name)@\(ProcessTable.host):\(getpid())"
    }
}

/// Runs blocking work on a dispatch queue, away from the cooperative pool, which has only as many threads as cores.
package func blocking<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        blockingQueue.async { continuation.resume(with: Result(catching: body)) }
    }
}

/// Runs a step to its end also when the caller's task is cancelled: an undo, or what cannot be undone any more.
///
/// The registry, ``blocking(_:)`` and the actors need no shelter, since they take no notice of a cancellation; git
/// processes do, and `Task.sleep`.
func uncancelled<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
    // The task inherits neither the cancellation nor a parent that would be cancelled later.
    try await Task { try await body() }.value
}

let blockingQueue = DispatchQueue(label: "wtengine.blocking", attributes: .concurrent)
