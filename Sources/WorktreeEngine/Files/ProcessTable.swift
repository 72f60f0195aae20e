import CLinux
import Glibc
package import Registry

/// What `/proc` says. See: man 5 proc
package enum ProcessTable {
    /// This machine and boot; part of a start time, which counts from boot.
    static let bootID: String =
        (try? Directory("/proc/sys/kernel/random").read("boot_id"))?.map { String($0.prefix { $0 != "\n" }) } ?? "-"

    /// The mask of this process's new files, in octal digits. umask(2) tells it only by changing it, for all threads.
    static var umask: String {
        let name = Array("\nUmask:".utf8)
        return (contents(of: "/proc/self/status") ?? [0]).withUnsafeBytes { status in
            guard let found = memmem(status.baseAddress!, status.count, name, name.count) else { return "" }
            let start = UnsafeRawPointer(found) - status.baseAddress! + name.count
            return String(decoding: status[start...].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        }
    }

    package static let host: String = {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return text(buffer)
    }()

    /// A running process; nil when there is none with this pid. A zombie does not run.
    package static func worker(_ pid: Int32) -> WorkerProcess? {
        guard let fields = runningStat(pid) else { return nil }
        return WorkerProcess(pid: pid, start: "\(bootID):\(fields[19])", host: host)
    }

    /// What /proc/<pid>/stat says of a running process, from its state on, which is field 3. One whose first thread has
    /// ended is shown as a zombie, and runs as long as it has others. See: man 5 proc_pid_stat
    private static func runningStat(_ pid: Int32) -> [Substring]? {
        guard pid > 0, let directory = try? Directory("/proc/\(pid)"), let text = (try? directory.read("stat")) ?? nil,
            let afterName = text.lastIndex(of: ")")
        else { return nil }
        // The name may hold anything, so fields count from the last parenthesis.
        let fields = text[text.index(after: afterName)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "X" else { return nil }
        return fields[0] != "Z" || hasThreads(fields) ? fields : nil
    }

    private static func hasThreads(_ fields: [Substring]) -> Bool { Int(fields[17]).map { $0 > 1 } ?? false }

    /// Takes this process's memory and environment away from other processes of its user, until it calls exec.
    package static func hideMemory() throws(EngineError) {
        guard linux_hide_memory() == 0 else {
            throw .wrap(SystemError.last("prctl", "PR_SET_DUMPABLE"), "hiding memory")
        }
    }

    /// Whether a process runs in the group that a process leads or has led. Blocks: it looks at all processes.
    package static func isGroupRunning(of leader: WorkerProcess) -> Bool {
        // Another process has the number by now, so nothing of the group can be left.
        if let now = worker(leader.pid), now != leader { return false }
        // Without /proc there are no workers either: their start time could not be read.
        return (try? isGroupRunning(leader.pid)) ?? false
    }

    /// Whether a process runs in a group that still has its number; a zombie that nobody reaps does not. Blocks.
    /// - Throws: when the processes cannot be listed.
    static func isGroupRunning(_ group: pid_t) throws -> Bool {
        let group = Substring(String(group))
        return try pids(Directory("/proc")).contains { runningStat($0)?[2] == group }
    }

    /// How long the process has run, if it was started since this machine was; also right when the clock was set.
    package static func age(of process: WorkerProcess) -> Duration? {
        let parts = process.start.split(separator: ":")
        guard process.host == host, parts.count == 2, parts[0] == bootID, let ticks = Int64(parts[1]) else {
            return nil
        }
        var now = timespec()
        guard clock_gettime(CLOCK_BOOTTIME, &now) == 0 else { return nil }
        let perSecond = Int64(sysconf(CInt(_SC_CLK_TCK)))
        let start = Duration.seconds(ticks / perSecond) + .seconds(1) * (ticks % perSecond) / perSecond
        return .seconds(now.tv_sec) + .nanoseconds(now.tv_nsec) - start
    }

    static func pids(_ table: borrowing Directory) throws -> [Int32] {
        var pids: [Int32] = []
        try table.forEachName { name, _ in
            if let pid = Int32(String(cString: name)) { pids.append(pid) }
        }
        return pids
    }

    /// Whether the very process runs that was recorded. One on another host cannot be seen, so it counts as alive.
    package static func isAlive(_ worker: WorkerProcess) -> Bool {
        worker.host != host || self.worker(worker.pid) == worker
    }
}
