import CLinux
import Git
import Glibc
import SystemPackage

import struct Foundation.Date

/// A `flock` on `<common dir>/wtengine.lock`: one process at a time changes the metadata of a repository.
final class RepositoryLock: Sendable {
    private let descriptor: CInt
    private let commonDir: String

    /// Waits up to 30 s: what is done under the lock takes milliseconds, so longer means a process that hangs.
    init(_ commonDir: String) throws {
        self.commonDir = commonDir
        let path = "\(commonDir)/wtengine.lock"
        descriptor = try system("open", path) { linux_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666) }
        var waited: UInt32 = 0
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard Glibc.errno == EWOULDBLOCK || Glibc.errno == EINTR, waited < 30_000_000 else {
                close(descriptor)
                throw EngineError(
                    .locked, .blocked, "\(path) was held by another process for 30 s. Try again when it has ended.")
            }
            let pause = min(500 + waited / 8, 10_000)
            usleep(pause)
            waited += pause
        }
        do { try mend() } catch {
            release()
            throw error
        }
    }

    // MARK: References

    /// Notes in the lock file which reference is being changed, so that lock files that a crash leaves can be told from
    /// those of others.
    func begin(_ reference: String) throws(SystemError) {
        let text = Array("\(reference)\n".utf8)
        try system("pwrite", "\(commonDir)/wtengine.lock") { CInt(pwrite(descriptor, text, text.count, 0)) }
    }

    /// The change is complete, or libgit2 has taken its lock files back.
    func end() { _ = ftruncate(descriptor, 0) }

    func changing<T>(_ reference: String, _ body: () throws -> T) throws -> T {
        try begin(reference)
        defer { end() }
        return try body()
    }

    /// Removes the lock files of a process that died while it changed a reference.
    ///
    /// libgit2 holds `<reference>.lock` and `packed-refs.lock`, which nobody else may take by their age. But whoever holds
    /// this lock knows that the process that wrote the note is gone. A lock file counts as that process's when it is not
    /// much younger than the note, and for a second neither changes nor is open anywhere.
    private func mend() throws {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        guard count > 0, let noted = fileStatus("\(commonDir)/wtengine.lock") else { return }
        let reference = String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        if Repository.isValidReference(reference) {
            for path in ["\(commonDir)/\(reference).lock", "\(commonDir)/packed-refs.lock"] {
                try removeIfDead(path) { $0.st_ctim.tv_sec <= noted.st_mtim.tv_sec + 10 }
            }
        }
        end()
    }

    /// Removes the lock file that a git of ours has left at a reference when it was ended.
    ///
    /// A signal may meet git between making the file and noting that it has to be removed. See: git `tempfile.c`
    /// (`create_tempfile_mode`)
    /// - Parameters:
    ///   - reference: that no other process has a reason to change.
    ///   - begun: an older file was not made by that git.
    func removeDeadLock(of reference: String, begun: Date) throws {
        let second = Int(begun.timeIntervalSince1970.rounded(.down))
        try removeIfDead("\(commonDir)/\(reference).lock") { $0.st_ctim.tv_sec >= second }
    }

    /// - Parameter isOurs: whether its age allows that it is.
    private func removeIfDead(_ path: String, _ isOurs: (stat) -> Bool) throws {
        guard let before = fileStatus(path), isOurs(before) else { return }
        usleep(1_100_000)
        guard let after = fileStatus(path), after.st_ino == before.st_ino,
            after.st_ctim.tv_sec == before.st_ctim.tv_sec, after.st_ctim.tv_nsec == before.st_ctim.tv_nsec,
            try ProcessTable.inside([path]).isEmpty
        else { return }
        try system("unlink", path) { unlink(path) }
    }

    private func fileStatus(_ path: String) -> stat? {
        var value = stat()
        return lstat(path, &value) == 0 ? value : nil
    }

    /// Unlocked first: a child that another thread has just forked shares the lock until it calls exec.
    func release() {
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}
