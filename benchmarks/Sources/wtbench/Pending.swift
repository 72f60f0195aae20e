import WorktreeEngine

/// What newer versions of the engine have. Here alone, so that the benchmarks also measure older ones.
enum Pending {
    static var pool: Materializer? { Materializer(rawValue: "pool") }
    static var snapshot: Materializer? { Materializer(rawValue: "snapshot") }

    static func fill(_ engine: Engine, _ repository: String, size: Int) async throws {
        #if ENGINE_HAS_POOL
            _ = try await engine.fillPool(repository: repository, size: size)
        #else
            throw Failure("build with -Xswiftc -DENGINE_HAS_POOL: this engine has a pool.")
        #endif
    }

    static func drain(_ engine: Engine, _ repository: String) async throws {
        #if ENGINE_HAS_POOL
            _ = try await engine.drainPool(repository: repository)
        #endif
    }
}
