import Dispatch
import Synchronization

/// Keeps what stands in the files of the trees that are checked out again and again, since inflating a file takes as long
/// as writing it.
///
/// The first checkout of a tree only tells how large it is; the second keeps what it reads; those after it read nothing.
/// So a process that makes one workdir keeps nothing. What was not used for ``idle`` goes, as does what was used longest
/// ago when there is no room for another tree.
final class ContentCache: Sendable {
    /// What a checkout does about contents.
    enum Source {
        /// Reads them.
        case repository
        /// Reads them, and gives them to this as well.
        case recording(TreeContents)
        /// Takes them from here.
        case memory(TreeContents)
    }

    private struct Kept {
        let contents: TreeContents
        var lastUse: ContinuousClock.Instant
    }

    private struct State {
        /// The size of trees that were checked out once, in bytes; nil for one that cannot be kept.
        var sizes: [String: Int?] = [:]
        var kept: [String: Kept] = [:]
        /// Trees that are being recorded now, with what they take.
        var recording: [String: Int] = [:]
        var isExpiring = false

        var size: Int { kept.values.reduce(0) { $0 + $1.contents.cost } }
    }

    private let state = Mutex(State())
    private let limit: Int
    private let idle: Duration

    private static let mostSizes = 1000

    /// - Parameters:
    ///   - limit: bytes that are kept at most; 0 keeps nothing. What makes room for another tree is there until the last
    ///     checkout that reads it has ended.
    ///   - idle: how long contents are kept that nobody asks for.
    init(limit: Int, idle: Duration = .seconds(300)) {
        self.limit = limit
        self.idle = idle
    }

    /// Bytes that are kept now.
    var size: Int { state.withLock { $0.size } }

    /// Where a checkout that begins now takes its contents.
    /// - Parameters:
    ///   - key: everything that decides the contents; equal keys have equal contents.
    ///   - entries: how many entries the tree has.
    func source(_ key: String, entries: Int) -> Source {
        state.withLock { state in
            if let kept = state.kept[key] {
                state.kept[key]?.lastUse = .now
                return .memory(kept.contents)
            }
            guard limit > 0, case let size?? = state.sizes[key], state.recording[key] == nil,
                makeRoom(for: TreeContents.cost(entries: entries, bytes: size), &state),
                let contents = TreeContents(entries: entries, bytes: size)
            else { return .repository }
            state.recording[key] = contents.cost
            return .recording(contents)
        }
    }

    /// Forgets what was used longest ago until there is room for so many bytes.
    private func makeRoom(for cost: Int, _ state: inout State) -> Bool {
        let reserved = state.recording.values.reduce(0, +)
        guard reserved + cost <= limit else { return false }
        while reserved + cost + state.size > limit,
            let oldest = state.kept.min(by: { $0.value.lastUse < $1.value.lastUse })
        {
            state.kept[oldest.key] = nil
        }
        return true
    }

    /// A checkout has ended.
    /// - Parameters:
    ///   - size: bytes in all its files, or nil when it failed.
    ///   - count: how many entries have contents.
    func finished(_ key: String, _ source: Source, size: Int?, count: Int) {
        switch source {
        case .memory: return
        case .repository:
            guard let size, size <= limit else { return }
            state.withLock { state in
                if state.sizes.count >= Self.mostSizes { state.sizes = [:] }
                if state.sizes[key] == nil { state.sizes[key] = size }
            }
        case .recording(let contents):
            let isWhole = size != nil && contents.seal(count)
            state.withLock { state in
                state.recording[key] = nil
                // Written without an error, and not as long as the first: lengths beyond 4 GiB are not known.
                if size != nil, !isWhole { state.sizes[key] = .some(nil) }
                if isWhole { state.kept[key] = Kept(contents: contents, lastUse: .now) }
            }
            if isWhole { expireLater() }
        }
    }

    /// Comes back when what was used longest ago has not been used for long enough.
    private func expireLater() {
        let first = state.withLock { state -> ContinuousClock.Instant? in
            guard !state.isExpiring, let first = state.kept.values.map(\.lastUse).min() else { return nil }
            state.isExpiring = true
            return first
        }
        guard let first else { return }
        let (seconds, attoseconds) = (first + idle - .now).components
        let delay = max(0, Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)) + 1
        // Weakly: an engine that is gone keeps nothing.
        blockingQueue.asyncAfter(deadline: .now() + .milliseconds(delay)) { [weak self] in self?.expire() }
    }

    private func expire() {
        // Unmapped when the lock is free again.
        var gone: [Kept] = []
        state.withLock { state in
            let now = ContinuousClock.now
            for (key, kept) in state.kept where now - kept.lastUse >= idle {
                gone.append(kept)
                state.kept[key] = nil
            }
            state.isExpiring = false
        }
        gone = []
        expireLater()
    }
}
