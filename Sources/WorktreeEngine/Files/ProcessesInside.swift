import CLinux
import Dispatch
import Glibc
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

extension ProcessTable {
    /// Every process that this user may look at whose cwd, root, executable or an open file lies in one of `paths`, by
    /// whichever mount it came there.
    ///
    /// A child that another thread of this process has just forked holds copies of all descriptors until it calls exec,
    /// which closes them: it is given the time for that.
    /// - Parameter mappings: also those that have mapped a file of them into memory, which takes longer to find out.
    /// - Throws: when the processes cannot be listed, or when it cannot be decided whether one of them is inside.
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
            && linkTarget(directory.descriptor, "exe") == linkTarget(own.descriptor, "exe")
    }

    /// A mount point below a directory; nil when there is none.
    static func mount(below directory: String) throws -> String? {
        guard let mounts = MountTable(of: "self") else {
            throw EngineError(
                .system, .blocked,
                "cannot read /proc/self/mountinfo, so wtengine cannot tell what is mounted below \(directory). Mount /proc "
                    + "(`mount -t proc proc /proc`), then try again.")
        }
        return mounts.mount(below: directory)
    }

    private static func list(_ paths: [String], _ mappings: Bool) throws -> [ProcessInside] {
        let matcher = try DirectoryMatcher(paths)
        let table = try Directory("/proc")
        // Open to the end of the look.
        defer { _ = table.descriptor }
        let descriptor = table.descriptor
        // This process before the others: a process may lead to a walk of the directories, and the descriptors of the walk
        // would make this process look as if it were inside.
        let own = try look(getpid(), descriptor, matcher, mappings)
        // The kernel takes its time for each link, so that a few threads help.
        let all = try pids(table).filter { $0 != getpid() }
        let next = Atomic<Int>(0)
        let found = Mutex<(processes: [ProcessInside], error: (any Error)?)>(([own].compactMap(\.self), nil))
        DispatchQueue.concurrentPerform(iterations: min(4, ProcessInfo.processInfo.activeProcessorCount)) { _ in
            do {
                while true {
                    let position = next.add(1, ordering: .relaxed).oldValue
                    if position >= all.count { break }
                    if let process = try look(all[position], descriptor, matcher, mappings) {
                        found.withLock { $0.processes.append(process) }
                    }
                }
            } catch {
                found.withLock { $0.error = error }
            }
        }
        let (processes, error) = found.withLock { $0 }
        if let error { throw error }
        return processes.sorted { $0.pid < $1.pid }
    }

    /// A process that ends meanwhile has nothing open any more.
    private static func look(
        _ pid: Int32, _ table: CInt, _ matcher: DirectoryMatcher, _ mappings: Bool
    ) throws -> ProcessInside? {
        for path in withOpenFiles(pid, table) {
            guard let directory = try? Directory("/proc/\(path)"),
                let holds = try matcher.comparison(for: path, directory).firstInside(directory, mappings)
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
}

/// What a link in /proc names, as text; empty when it cannot be read.
private func linkTarget(_ directory: CInt, _ name: String) -> String {
    withLinkTarget(directory, name) { String(decoding: $0, as: UTF8.self) }
}
