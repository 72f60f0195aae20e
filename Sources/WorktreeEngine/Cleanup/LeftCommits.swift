import Git
import Glibc
import SystemPackage

/// Commits that were made on a detached HEAD, which then was left for something else. Whoever does that is only warned by
/// git, and then nothing but the reflog of HEAD has them, which goes with the git directory.
/// See: git `builtin/checkout.c` (`update_refs_for_switched_branch`, `orphaned_commit_warning`)
extension Engine {
    /// Those of `tips`, in hexadecimal, and of what they reach that no reference reaches. What is not there any more does
    /// not count.
    /// - Throws: ``CannotLook`` when their history cannot be read.
    func ownCommits(ofAny tips: [String], in gitDir: String) async throws -> [OwnCommit] {
        if tips.isEmpty { return [] }
        do {
            let ids = tips.compactMap(ObjectID.init)
            if ids.count == tips.count {
                let found = try await asking(gitDir) { repository in
                    try repository.ownCommits(of: ids.filter { repository.hasCommit($0) }, excluding: ["refs/stash"])
                        .map { OwnCommit(id: $0.description, summary: repository.summary(ofCommit: $0)) }
                }
                if let found { return found }
            }
            return try await listed(["--ignore-missing"] + tips, in: gitDir, excluding: ["refs/stash"], onlyPrefix: nil)
        } catch let error as CancellationError {
            throw error
        } catch {
            throw CannotLook(reason: "the commits that its reflog names cannot be read (\(error))")
        }
    }

    /// Where a detached HEAD was left, in hexadecimal, as the reflog says.
    /// - Returns: all such places; and those where something was committed before. What was amended, rebased, reset or
    ///   deleted with its branch was given up on purpose, and what was only looked at is somebody else's.
    /// - Throws: ``CannotLook``.
    static func leftHeads(_ gitDir: String) throws -> (all: Set<String>, commits: [String]) {
        let log: String
        do {
            guard let text = try Directory(gitDir).open("logs").read("HEAD", limit: 64 << 20) else { return ([], []) }
            log = text
        } catch {
            // Without a reflog nothing was left that git could find again.
            if error.errno == .noSuchFileOrDirectory { return ([], []) }
            throw CannotLook(reason: "the reflog cannot be read (\(error))")
        }
        var (all, commits): (Set<String>, Set<String>) = ([], [])
        // Where HEAD is, and whether it came there by a commit.
        var head: (id: Substring, isMade: Bool)?
        for bytes in log.utf8.split(separator: UInt8(ascii: "\n")) {
            // `<old> <new> <identity>TAB<message>`. See: git `refs/files-backend.c` (`log_ref_write_fd`)
            let line = Substring(bytes)
            let ids = line.prefix(while: { $0 != "\t" }).split(separator: " ", maxSplits: 2)
            guard ids.count == 3, ids[0...1].allSatisfy(isObjectName) else { continue }
            let (old, new, message) = (ids[0], ids[1], line.drop { $0 != "\t" }.dropFirst())
            // Of a branch it has the name there.
            let isDetached = message.hasPrefix("checkout: moving from \(old) to ")
            if isDetached { all.insert(String(old)) }
            if let head, head.isMade, head.id != new {
                // The second is `git rebase <upstream> <branch>`. Where the line does not go on from the last, HEAD was made to
                // name a branch meanwhile (`git checkout --orphan`).
                let isLeaving = isDetached || message.hasPrefix("rebase: checkout ") || head.id != old
                if isLeaving { commits.insert(String(head.id)) }
            }
            let isLook = message.hasPrefix("checkout: ") || message.contains(": checkout ")
            if isLook || message.hasPrefix("reset: ") || old.allSatisfy({ $0 == "0" }) && !message.hasPrefix("commit") {
                head = (new, false)
            } else {
                head = (new, old == new ? head?.isMade ?? false : true)
            }
        }
        return (all, commits.sorted())
    }

    private static func isObjectName(_ text: Substring) -> Bool {
        [40, 64].contains(text.utf8.count) && text.utf8.allSatisfy { isxdigit(Int32($0)) != 0 }
    }
}
