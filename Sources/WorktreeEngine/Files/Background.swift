import CLinux
import Dispatch
import Foundation
import Glibc
import Synchronization

/// Work that nobody waits for: on threads of its own with low priority, and standing back while a spawn is under way.
final class Background: Sendable {
    private let spawns = Atomic<Int>(0)
    private let waiting = Atomic<Int>(0)
    private let backlog = Atomic<Int>(0)
    /// How often anybody has stood back so far.
    let pauses = Atomic<Int>(0)
    private let pause: @Sendable () -> Void

    /// - Parameter pause: how to stand back for a moment; a test has something else happen in it.
    init(pause: @escaping @Sendable () -> Void = { usleep(2000) }) { self.pause = pause }

    /// A spawn begins or ends.
    func spawnBegins() { spawns.add(1, ordering: .relaxed) }
    func spawnEnds() { spawns.subtract(1, ordering: .relaxed) }

    /// Somebody waits for the background now, so it does not stand back.
    func hurry<T>(_ body: () async -> T) async -> T {
        waiting.add(1, ordering: .relaxed)
        defer { waiting.subtract(1, ordering: .relaxed) }
        return await body()
    }

    /// Gives way to spawns, for a while: trash takes space, and under a steady load there is always some spawn. With
    /// more in the queue than a few, it does not give way at all.
    func giveWay() {
        for _ in 0..<10 {
            let isFree = spawns.load(ordering: .relaxed) == 0 || waiting.load(ordering: .relaxed) > 0
            if isFree || backlog.load(ordering: .relaxed) > 4 { return }
            pauses.add(1, ordering: .relaxed)
            pause()
        }
    }

    /// Runs blocking work on a new thread of low priority. Not on a queue, since the priority of a thread cannot be
    /// raised again without privileges.
    func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        backlog.add(1, ordering: .relaxed)
        defer { backlog.subtract(1, ordering: .relaxed) }
        return try await withCheckedThrowingContinuation { continuation in
            Self.start { continuation.resume(with: Result(catching: body)) }
        }
    }

    /// Unlinks what stands in the stage or the trash of a root: on a few threads, which give way to spawns.
    func unlink(_ name: String, in place: String, of root: Root) async throws {
        try await run { [self] in
            try TreeDeletion.delete(name, in: root.openPrivate(place), threads: 4) { self.giveWay() }
        }
    }

    /// Runs the same on several threads of low priority, the calling one included, and waits for all.
    static func perform(_ threads: Int, _ body: @escaping @Sendable () -> Void) {
        let group = DispatchGroup()
        for _ in 1..<max(1, threads) {
            group.enter()
            start {
                body()
                group.leave()
            }
        }
        body()
        group.wait()
    }

    private static func start(_ body: @escaping @Sendable () -> Void) {
        let thread = Thread {
            // Where it is not allowed, it runs as everything else does.
            _ = linux_lower_priority()
            body()
        }
        thread.name = "wtengine.background"
        thread.start()
    }
}
