import Dispatch
import Git
import Synchronization

/// Lets creations of one tree that are under way at the same time share a checkout: every blob is read and inflated once
/// and written to all of them.
///
/// As with a group commit nobody waits for others to come: the first is served at once, and those that arrive
/// meanwhile are served together when it is done.
final class SharedCheckouts: Sendable {
    /// Where one creation wants its files and its index.
    struct Destination: Sendable {
        /// The directory that holds the workdir.
        let stage: String
        /// The workdir: an existing empty directory there.
        let name: String
        /// The directory that takes `index`, which must not exist yet.
        let adminStage: String
    }

    private struct Member: Sendable {
        let destination: Destination
        let continuation: CheckedContinuation<Void, any Error>
    }

    /// Those that wait, by tree. A key is there while its tree is being checked out.
    private let waiting = Mutex<[String: [Member]]>([:])

    /// Each of up to eight workers holds a descriptor for each destination, and a process may have 1,024.
    private static let mostDestinations = 50
    /// Stat data is kept for each entry of each destination; this many entries take about 40 MB.
    private static let mostEntries = 1 << 20

    /// Fills a workdir and writes its index, alone or together with others of the same key.
    /// - Parameters:
    ///   - key: names everything that decides the files; equal keys have equal files.
    ///   - make: reads the tree. Called once for all that are served together.
    /// - Throws: what `make` or the checkout throws. What was written stays for the caller to remove.
    func fill(
        _ destination: Destination, key: String, _ make: @escaping @Sendable () throws -> Checkout
    ) async throws {
        try await withCheckedThrowingContinuation { continuation in
            let member = Member(destination: destination, continuation: continuation)
            let isFirst = waiting.withLock { waiting in
                defer { waiting[key, default: []].append(member) }
                return waiting[key] == nil
            }
            if isFirst { blockingQueue.async { self.serve(key, make) } }
        }
    }

    private func serve(_ key: String, _ make: () throws -> Checkout) {
        let checkout = Result(catching: make)
        let entries = (try? checkout.get().flat.entries.count) ?? 1
        let most = max(1, min(Self.mostDestinations, Self.mostEntries / max(entries, 1)))
        while true {
            let members = waiting.withLock { waiting in
                let members = waiting[key, default: []].prefix(most)
                waiting[key]?.removeFirst(members.count)
                if members.isEmpty { waiting[key] = nil }
                return Array(members)
            }
            if members.isEmpty { return }
            do {
                // The mtime of the files is the second before their own checkout began.
                try Self.serve(members, checkout.get().startingNow())
                for member in members { member.continuation.resume() }
            } catch  where members.count == 1 {
                members[0].continuation.resume(throwing: error)
            } catch {
                // Of one destination the others know nothing: each has its own try and its own words.
                for member in members {
                    member.continuation.resume(with: Result { try Self.serveAgain(member, checkout.get()) })
                }
            }
        }
    }

    private static func serve(_ members: [Member], _ checkout: Checkout) throws {
        let filled = try checkout.fill(members.map { "\($0.destination.stage)/\($0.destination.name)" })
        // One after the other: an index of a large tree takes as much memory as its list of files.
        for (member, filled) in zip(members, filled) {
            try Directory(member.destination.adminStage).createIndex(of: checkout, filled)
        }
    }

    private static func serveAgain(_ member: Member, _ checkout: Checkout) throws {
        let destination = member.destination
        let stage = try Directory(destination.stage)
        try TreeDeletion.delete(destination.name, in: stage)
        try stage.makeDirectory(destination.name)
        let adminStage = try Directory(destination.adminStage)
        try adminStage.removeFile("index")
        try adminStage.removeFile(DirectoryTimes.fileName)
        try serve([member], checkout.startingNow())
    }
}
