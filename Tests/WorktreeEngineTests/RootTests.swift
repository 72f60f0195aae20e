import Foundation
import Glibc
import Registry
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct RootTests {
    @Test func `of registries that want a root at once, one gets it`() async throws {
        let scratch = try Scratch()
        var registries: [Registry] = []
        for number in 0..<8 { registries.append(try Registry(path: "\(scratch.path)/\(number).sqlite", actor: "test")) }
        for round in 0..<40 {
            let path = "\(scratch.path)/root-\(round)"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
            // In every other round the owner is a registry that is gone.
            if round % 2 == 1 {
                try write(TestFile(".wtengine/owner", "\(scratch.path)/gone.sqlite\n"), in: path)
            }
            let owners = await withTaskGroup(of: Bool.self) { group in
                for registry in registries {
                    group.addTask { (try? await Root.prepare(path, make: false, registry: registry)) != nil }
                }
                return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(owners == 1)
        }
    }
}

/// Roots that cannot be written any more.
@Suite(.enabled(if: Mount.canTry, "needs root"))
struct ReadOnlyRootTests {
    private let scratch: Scratch
    private let repository: TestRepository
    private let mount: Mount
    private let engine: Engine
    private let other: String

    init() async throws {
        scratch = try Scratch()
        repository = try await scratch.repository()
        mount = try await Mount(tmpfs: "16M")
        other = "\(scratch.path)/other"
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: false)
        let roots = [mount.path, other]
        engine = try await scratch.engine { $0.roots = roots }
        // Makes the roots ours.
        _ = try await engine.poolStatus()
    }

    private func remount(_ option: String) async throws {
        try await run(["mount", "--options", "remount,\(option)", mount.path], in: "/")
    }

    @Test func `a spawn is refused and forgotten, and succeeds when the root can be written again`() async throws {
        try await remount("ro")
        try await expectRefused(
            request(repository.path), engine, code: .system, mentions: "Remount it writable",
            repository: repository.path)
        do { _ = try await engine.spawn(request(repository.path)) } catch { #expect(error.disposition == .blocked) }
        try await remount("rw")
        let workdir = try await engine.spawn(request(repository.path))
        #expect(workdir.path.hasPrefix(mount.path))
    }

    @Test(arguments: ["", "pool/unknown", "stage/left", "templates/left"])
    func `sweep and recover go on with the other roots`(_ left: String) async throws {
        for root in [mount.path, other] {
            try await sh("mkdir -p .wtengine/stage/left .wtengine/\(left)/d", in: root)
        }
        if left.isEmpty { try await sh("rm -r .wtengine/stage .wtengine/d", in: mount.path) }
        try await remount("ro")
        let report = try await engine.sweep()
        #expect(report.emptied >= 1)
        #expect(report.trashLeft.isEmpty == left.isEmpty, "\(report.trashLeft)")
        try await sh("mkdir -p .wtengine/stage/left", in: other)
        _ = try await engine.recover()
        let names = try FileManager.default.contentsOfDirectory(atPath: "\(other)/.wtengine/stage")
        #expect(names == [])
    }
}
