import CLinux
import Dispatch
import Glibc
package import Registry
import Synchronization

import class Foundation.ProcessInfo

/// A process that has something open inside a workdir.
public struct ProcessInside: Hashable, Sendable {
    /// The process.
    public let pid: Int32
    /// Its name, as the kernel keeps it (at most 15 bytes).
    public let name: String
    /// What lies inside: `cwd`, `root`, `exe`, `fd N` or `mapping`, or `worker` for the one that is attached.
    public let holds: String
}

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

    private static func pids(_ table: borrowing Directory) throws -> [Int32] {
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

    /// Every process that this user may look at whose cwd, root, executable or an open file lies in one of `paths`, by
    /// whichever mount it came there.
    ///
    /// A child that another thread of this process has just forked holds copies of all descriptors until it calls exec,
    /// which closes them: it is given the time for that.
    /// - Parameter mappings: also those that have mapped a file of them into memory, which takes longer to find out.
    static func inside(_ paths: [String], mappings: Bool = false) throws -> [ProcessInside] {
        var found = try list(paths, mappings)
        for _ in 0..<200 where !found.isEmpty {
            // One that calls exec between this look and a question about it would seem to be another process inside, so
            // who is found has to be found again.
            let isForking = found.contains(where: isFork)
            let before = Set(found.map(\.pid))
            usleep(5000)
            found = try list(paths, mappings)
            if !isForking, Set(found.map(\.pid)) == before { break }
        }
        return found
    }

    private static func isFork(_ process: ProcessInside) -> Bool {
        guard process.holds.hasPrefix("fd "), process.pid != getpid(),
            let directory = try? Directory("/proc/\(process.pid)"),
            let own = try? Directory("/proc/\(getpid())"), let text = (try? directory.read("stat")) ?? nil,
            let afterName = text.lastIndex(of: ")")
        else { return false }
        let fields = text[text.index(after: afterName)...].split(separator: " ")
        return fields.count > 1 && Int32(fields[1]) == getpid()
            && link(directory.descriptor, "exe") == link(own.descriptor, "exe")
    }

    /// A mount point below a directory; nil when there is none.
    static func mount(below directory: String) throws -> String? {
        guard let mounts = MountTable(of: "self") else { throw SystemError.last("open", "/proc/self/mountinfo") }
        return mounts.mount(below: directory)
    }

    private static func list(_ paths: [String], _ mappings: Bool) throws -> [ProcessInside] {
        let namespaces = Namespaces(paths)
        let table = try Directory("/proc")
        // Open to the end of the look.
        defer { _ = table.descriptor }
        let descriptor = table.descriptor
        // The kernel takes its time for each link, so that a few threads help. This process, which has more open and mapped
        // than most, is not left for the end, when the other threads have nothing to do.
        let all = try [getpid()] + pids(table).filter { $0 != getpid() }
        let next = Atomic<Int>(0)
        let found = Mutex<[ProcessInside]>([])
        DispatchQueue.concurrentPerform(iterations: min(4, ProcessInfo.processInfo.activeProcessorCount)) { _ in
            while true {
                let position = next.add(1, ordering: .relaxed).oldValue
                if position >= all.count { break }
                if let process = look(all[position], descriptor, namespaces, mappings) {
                    found.withLock { $0.append(process) }
                }
            }
        }
        return found.withLock { $0.sorted { $0.pid < $1.pid } }
    }

    /// A process that ends meanwhile has nothing open any more.
    private static func look(
        _ pid: Int32, _ table: CInt, _ namespaces: Namespaces, _ mappings: Bool
    ) -> ProcessInside? {
        for path in withOpenFiles(pid, table) {
            guard let directory = try? Directory("/proc/\(path)"),
                let holds = namespaces.links(of: path, directory).firstInside(directory, mappings)
            else { continue }
            let name = ((try? directory.read("comm")) ?? nil)?.split(separator: "\n").first.map(String.init)
            return ProcessInside(pid: pid, name: name ?? "?", holds: holds)
        }
        return nil
    }

    /// Where below /proc to see what a process has open: itself, or all threads of one whose first thread has ended. Empty for
    /// threads of the kernel, half of all processes on many machines, and zombies, which run no program and have no files;
    /// and for those that this process may not look at, which is decided once for all of their links and mappings.
    /// See: linux/fs/proc/base.c (`proc_fd_access_allowed`, `proc_task_getattr`)
    private static func withOpenFiles(_ pid: Int32, _ table: CInt) -> [String] {
        var byte: CChar = 0
        if readlinkat(table, "\(pid)/exe", &byte, 1) >= 0 { return ["\(pid)"] }
        if Glibc.errno == EACCES { return [] }
        // Another reason, such as the length of the path, says nothing of the files.
        guard Glibc.errno == ENOENT else { return ["\(pid)"] }
        var value = stat()
        // The links of this directory are its own two and one for each thread, the ended one included.
        guard fstatat(table, "\(pid)/task", &value, 0) == 0, value.st_nlink > 3,
            let threads = try? Directory("/proc/\(pid)/task"), let ids = try? pids(threads)
        else { return [] }
        return ids.filter { $0 != pid }.map { "\(pid)/task/\($0)" }
    }

    private static func link(_ directory: CInt, _ name: String) -> String {
        LinkReader([]).read(directory, name) { String(decoding: $0, as: UTF8.self) }
    }
}

/// The paths to what is looked for, which are others in another mount namespace.
private final class Namespaces: Sendable {
    private let paths: [[UInt8]]
    private let locations: [MountTable.Location]
    private let own: [UInt8]
    private let known: Mutex<[[UInt8]: LinkReader]>

    init(_ paths: [String]) {
        let mounts = MountTable(of: "self")
        let locations = paths.compactMap { mounts?.location(of: $0) }
        let texts = paths.map { Array($0.utf8) }
        own = LinkReader([]).read(AT_FDCWD, "/proc/self/ns/mnt") { Array($0) }
        known = Mutex([own: LinkReader(texts + locations.flatMap { mounts?.paths(to: $0) ?? [] })])
        self.paths = texts
        self.locations = locations
    }

    /// - Parameter path: of the process below /proc.
    func links(of path: String, _ process: borrowing Directory) -> LinkReader {
        let name = Self.name(process)
        if let links = known.withLock({ $0[name.isEmpty ? own : name] }) { return links }
        let mounts = MountTable(of: path)
        let made = LinkReader(paths + locations.flatMap { mounts?.paths(to: $0) ?? [] })
        // One that ended meanwhile says nothing of the others there.
        if mounts != nil { known.withLock { $0[name] = made } }
        return made
    }

    private static func name(_ process: borrowing Directory) -> [UInt8] {
        LinkReader([]).read(process.descriptor, "ns/mnt") { Array($0) }
    }
}

/// Reads what the links of a process lead to. A look at a machine takes thousands, so bytes are compared in place.
private struct LinkReader {
    private let paths: [[UInt8]]

    init(_ paths: [[UInt8]]) { self.paths = Array(Set(paths)) }

    /// The first thing of a process that lies in one of the paths.
    func firstInside(_ process: borrowing Directory, _ mappings: Bool) -> String? {
        let descriptor = process.descriptor
        for name in ["cwd", "root", "exe"] where isInside(descriptor, name) { return name }
        if mappings, hasMapping(process) { return "mapping" }
        guard let files = try? process.open("fd") else { return nil }
        var found: String?
        let fd = files.descriptor
        // A process that ends meanwhile has nothing open any more.
        try? files.forEachName { name, _ in
            if found == nil, isInside(fd, name) { found = "fd \(String(cString: name))" }
        }
        return found
    }

    /// A line ends in the path of the file, after blanks. See: man 5 proc (/proc/pid/maps)
    private func hasMapping(_ process: borrowing Directory) -> Bool {
        guard let table = contents(of: "\(process.path)/maps") else { return false }
        return paths.contains { path in
            // Nobody else's lines begin with it, so most tables are searched once and that is all.
            var rest = table[...]
            while let start = Self.find(path, in: rest) {
                let end = start + path.count
                let isWhole = end == table.count || [UInt8(ascii: "/"), UInt8(ascii: "\n"), 32].contains(table[end])
                if isWhole, start > 0, table[start - 1] == 32 { return true }
                rest = table[end...]
            }
            return false
        }
    }

    private static func find(_ path: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress, let found = memmem(base, buffer.count, path, path.count) else {
                return nil
            }
            return bytes.startIndex + (UnsafeRawPointer(found) - base)
        }
    }

    private func isInside(_ directory: CInt, _ name: UnsafePointer<CChar>) -> Bool {
        read(directory, name) { link in
            paths.contains { path in
                link.starts(with: path) && (link.count == path.count || link[path.count] == UInt8(ascii: "/"))
            }
        }
    }

    /// Gives what a link leads to; nothing when it cannot be read. What is no path (`socket:[1]`, `pipe:[2]`) lies nowhere.
    func read<T>(_ directory: CInt, _ name: UnsafePointer<CChar>, _ body: (UnsafeRawBufferPointer) -> T) -> T {
        withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
            let count = readlinkat(
                directory, name, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
            return body(UnsafeRawBufferPointer(rebasing: buffer[..<max(count, 0)]))
        }
    }
}
