import Synchronization

/// Calls the body for 0..<count, so many at a time.
@concurrent
func keepInFlight(_ inFlight: Int, of count: Int, _ body: @escaping @Sendable (Int) async throws -> Void) async throws {
    let next = Counter()
    try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<inFlight {
            group.addTask {
                while let index = next.take(below: count) { try await body(index) }
            }
        }
        try await group.waitForAll()
    }
}

/// Counts from any task.
final class Counter: Sendable {
    private let value = Atomic<Int>(0)

    func take(below limit: Int) -> Int? {
        let taken = value.add(1, ordering: .relaxed).oldValue
        return taken < limit ? taken : nil
    }

    var taken: Int { value.load(ordering: .relaxed) }

    /// Calls the body until it succeeds, and counts the failures; twenty in a row are no accident.
    func retrying(_ body: () async throws -> Void) async throws {
        for _ in 0..<20 {
            do { return try await body() } catch is Failure { value.add(1, ordering: .relaxed) }
        }
        try await body()
    }
}
