import CBaseline

/// The files of a commit, written by nothing but the system calls that nobody can do without.
struct Floor: ~Copyable {
    private let tree: OpaquePointer

    private init(_ tree: OpaquePointer) { self.tree = tree }

    /// Copies names, modes and sizes.
    static func make(_ entries: [Subject.Entry]) throws -> Floor {
        guard let tree = bench_tree_make() else { throw Failure(errno: "malloc", "") }
        let floor = Floor(tree)
        guard entries.allSatisfy({ bench_tree_add(tree, $0.path, $0.mode, $0.size) == 0 }) else {
            throw Failure(errno: "malloc", "")
        }
        return floor
    }

    deinit { bench_tree_free(tree) }

    /// Makes everything below an empty directory.
    func write(_ path: String, threads: Int) throws -> UInt64 {
        try measure("floor: writing", path) { bench_floor_write(tree, path, Int32(threads)) }
    }

    /// One `lstat` of each file.
    func stat(_ path: String, threads: Int) throws -> UInt64 {
        try measure("floor: lstat", path) { bench_floor_stat(tree, path, Int32(threads)) }
    }

    /// One look at the names in each directory.
    func list(_ path: String, threads: Int) throws -> UInt64 {
        try measure("floor: listing", path) { bench_floor_list(tree, path, Int32(threads)) }
    }

    /// Removes everything below the directory.
    func remove(_ path: String, threads: Int) throws -> UInt64 {
        try measure("floor: unlinking", path) { bench_floor_remove(tree, path, Int32(threads)) }
    }

    private func measure(_ what: String, _ path: String, _ body: () -> Int32) throws -> UInt64 {
        let began = ContinuousClock.now
        guard body() == 0 else { throw Failure(errno: what, path) }
        return (ContinuousClock.now - began).nanoseconds
    }
}
