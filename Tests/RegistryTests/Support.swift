import Foundation
import Registry
import TestSupport
import Testing

/// A run that has nothing on disk.
func makeRun(
    _ issue: String = "local#1", _ run: String = "2026-02-14-backend-0001", repo: String = "/repo", path: String? = nil
) throws -> Run {
    let key = try RunKey(issue: issue, run: run)
    return try Run(
        key: key, role: key.run.role ?? Role("other"), repo: repo, commonDir: "\(repo)/.git", root: "/srv",
        path: path ?? "/srv/\(key.issue.pathComponent)/\(run)", adminID: "\(run)-\(UUID().uuidString)",
        branch: "run/\(issue)/\(run)", base: String(repeating: "a", count: 40), materializer: .checkout)
}

extension Scratch {
    /// A registry with its file in here; any number may share it.
    func registry(_ name: String = "registry.sqlite", actor: String = "test") throws -> Registry {
        try Registry(path: "\(path)/\(name)", actor: actor)
    }
}

extension Registry {
    /// Begins and activates a run.
    @discardableResult
    func spawn(_ run: Run, switching: Bool = false, limits: Limits = Limits()) async throws -> (
        run: Run, superseded: Run?
    ) {
        _ = try await begin(run, switching: switching, limits: limits)
        return try await activate(run.key, materializer: .checkout, identity: FileIdentity(device: 1, inode: 2))
    }
}

/// The name of the case of the registry's error that `body` throws; nil when it throws none.
func failure(_ body: () async throws -> Void) async -> String? {
    do {
        try await body()
        return nil
    } catch let error as RegistryError {
        return Mirror(reflecting: error).children.first?.label ?? "\(error)"
    } catch { return "\(error)" }
}
