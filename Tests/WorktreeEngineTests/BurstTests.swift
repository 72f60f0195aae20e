import Foundation
import Git
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct BurstTests {
    @Test func `fifty spawns of one commit at once are fifty clean workdirs, each as git would make it`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine { $0.limits.perRepository = 100 }
        let workdirs = try await withThrowingTaskGroup(of: Workdir.self) { group in
            for number in 1...50 {
                group.addTask { try await engine.spawn(request(repository.path, issue: "local#\(number)")) }
            }
            return try await group.reduce(into: [Workdir]()) { $0.append($1) }
        }
        #expect(Set(workdirs.map(\.path)).count == 50)
        let expected = try await gitsOwnCheckout(of: workdirs[0].base, in: repository.path, scratch: scratch)
        for workdir in workdirs {
            #expect(workdir.materializer == .checkout)
            #expect(try snapshot(workdir.path) == expected)
            #expect(try await git("status", "--porcelain", "--ignored", in: workdir.path) == "")
            #expect(try await git("diff-files", "--name-only", in: workdir.path) == "")
        }
        // No inode is shared: what one run writes, no other sees.
        let inodes = try workdirs.map {
            try FileManager.default.attributesOfItem(atPath: "\($0.path)/README.md")[.systemFileNumber] as? Int
        }
        #expect(Set(inodes).count == 50)
    }

    @Test func `a destination that cannot be written fails alone`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let commonDir = "\(repository.path)/.git"
        let handle = try Repository(gitDirectory: commonDir)
        let flat = try handle.flatten(tree: handle.tree(ofCommit: handle.commit("HEAD")))
        let shared = SharedCheckouts()
        let isHeld = DispatchSemaphore(value: 0)
        let outcomes = try await withThrowingTaskGroup(of: (Int, Bool).self) { group in
            for number in 0..<6 {
                let place = "\(scratch.path)/\(number)"
                // The fourth has something in its way.
                let names = number == 3 ? ["work", "work/README.md", "admin", "admin/index"] : ["work", "admin"]
                for name in names {
                    try FileManager.default.createDirectory(
                        atPath: "\(place)/\(name)", withIntermediateDirectories: true)
                }
                group.addTask {
                    do {
                        let destination = SharedCheckouts.Destination(
                            stage: place, name: "work", adminStage: "\(place)/admin")
                        try await shared.fill(destination, key: "same") {
                            // All six are waiting before the first is served.
                            isHeld.wait()
                            return Checkout(commonDir: commonDir, flat: flat, conversion: .none, workers: 2)
                        }
                        return (number, true)
                    } catch { return (number, false) }
                }
            }
            group.addTask {
                try await Task.sleep(for: .milliseconds(300))
                isHeld.signal()
                return (6, true)
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        #expect(outcomes == [0: true, 1: true, 2: true, 3: false, 4: true, 5: true, 6: true])
        let expected = try snapshot(repository.path)
        for number in [0, 1, 2, 4, 5] {
            // Without conversion the blobs' own bytes, with the modes of the source's files.
            #expect(try Set(snapshot("\(scratch.path)/\(number)/work").keys) == Set(expected.keys))
            #expect(try IndexFile(path: "\(scratch.path)/\(number)/admin/index").entries.count == flat.entries.count)
        }
    }
}
