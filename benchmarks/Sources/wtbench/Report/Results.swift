/// One thing that was measured with one contender, over all rounds. Samples of the same index are of the same round.
struct Series: Codable, Sendable {
    var measure: String
    var contender: String
    var unit: Unit
    var samples: [UInt64]

    enum Unit: String, Codable, Sendable {
        case nanoseconds = "ns"
        case kibibytes = "KiB"
    }
}

/// Everything measured with one repository.
struct SubjectResult: Codable, Sendable {
    var name: String
    var files: Int
    var directories: Int
    var bytes: UInt64
    var series: [Series] = []
    /// What was not measured, or less of it, and why.
    var notes: [String] = []

    func samples(_ measure: String, _ contender: String) -> [UInt64]? {
        series.first { $0.measure == measure && $0.contender == contender }?.samples
    }
}

/// One run of the benchmarks.
struct Results: Codable, Sendable {
    var machine: Machine
    var subjects: [SubjectResult] = []
}

/// Names that the measurements and the report share.
enum Measure {
    static let spawn = "spawn"
    static let leadSpawn = "spawn on a branch, out of the pool"
    static let firstStatus = "first status"
    static let secondStatus = "second status"
    static let plan = "plan of a cleanup"
    static let cleanup = "cleanup"
    static let planned = "plan and cleanup"
    static let ifClean = "cleanup if clean, in one step"
    static let unlinked = "cleanup until unlinked"
    static let lstat = "lstat pass"
    static let listing = "lstat pass, and a listing of each directory"
    static let start = "start of a process"
    static let memory = "peak memory of a spawn"

    static func burst(_ count: Int) -> String { "burst of \(count)" }
    static func sustained(_ inFlight: Int) -> String { "create and remove, \(inFlight) in flight" }
}

/// Who is measured.
enum Contender {
    /// Of a tree whose contents the engine has in memory.
    static let checkout = "wtengine checkout"
    static let reading = "wtengine checkout, reading the repository"
    static let pool = "wtengine pool"
    static let poolBurst = "wtengine pool of as many"
    static let refilling = "wtengine pool, refilling"
    static let lead = "LeadKit, with number, claim and work order"
    static let snapshot = "wtengine snapshot"
    static let commandLine = "wtengine command"
    static let gitOne = "git, 1 worker"
    static let gitMany = "git, a worker per core"
    static let gitSerial = "git, one after the other"
    static let gitConcurrent = "git, all at once"
    static let git = "git"
    static let libgit2 = "libgit2"
    static let floor = "floor"
}
