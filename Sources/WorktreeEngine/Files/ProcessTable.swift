import CLinux
import Glibc
import Registry

/// A process that has something open inside a workdir.
public struct ProcessInside: Hashable, Sendable {
    /// The process.
    public let pid: Int32
    /// Its name, as the kernel keeps it (at most 15 bytes).
    public let name: String
    /// What lies inside: `cwd`, `root`, `exe` or `fd N`, or `worker` for the one that is attached.
    public let holds: String
}

/// What `/proc` says. See: man 5 proc
enum ProcessTable {
    /// This machine and boot; part of a start time, which counts from boot.
    static let bootID: String =
        (try? Directory("/proc/sys/kernel/random").read("boot_id"))?.map { String($0.prefix { $0 != "\n" }) } ?? "-"

    /// The mask of this process's new files, in octal digits. umask(2) tells it only by changing it, for all threads.
    static var umask: String {
        let status = ((try? Directory("/proc/\(getpid())").read("status")) ?? nil) ?? ""
        return status.split(separator: "\n").first { $0.hasPrefix("Umask:") }.map(String.init) ?? ""
    }

    static let host: String = {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return text(buffer)
    }()

    /// A running process; nil when there is none with this pid. A zombie does not run.
    static func worker(_ pid: Int32) -> WorkerProcess? {
        guard pid > 0, let directory = try? Directory("/proc/\(pid)"), let text = (try? directory.read("stat")) ?? nil,
            let afterName = text.lastIndex(of: ")")
        else { return nil }
        // The name may hold anything, so fields count from the last parenthesis: state is the first, field 3.
        let fields = text[text.index(after: afterName)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
        return WorkerProcess(pid: pid, start: "\(bootID):\(fields[19])", host: host)
    }

    /// Whether the very process runs that was recorded. One on another host cannot be seen, so it counts as alive.
    static func isAlive(_ worker: WorkerProcess) -> Bool {
        worker.host != host || self.worker(worker.pid) == worker
    }

    /// Every process that this user may look at whose cwd, root, executable or an open file lies in one of `paths`.
    ///
    /// A child that another thread of this process has just forked holds copies of all descriptors until it calls exec,
    /// which closes them: it is given the time for that.
    static func inside(_ paths: [String]) throws -> [ProcessInside] {
        var found = try list(paths)
        for _ in 0..<200 where !found.isEmpty {
            // One that calls exec between this look and a question about it would seem to be another process inside, so
            // who is found has to be found again.
            let isForking = found.contains(where: isFork)
            let before = Set(found.map(\.pid))
            usleep(5000)
            found = try list(paths)
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

    /// A mount point below a directory; nil when there is none. See: man 5 proc (mountinfo)
    static func mount(below directory: String) throws -> String? {
        guard let text = try Directory("/proc/\(getpid())").read("mountinfo", limit: 64 << 20) else { return nil }
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 4 else { continue }
            let path = String(fields[4])
                .replacing("\\040", with: " ").replacing("\\011", with: "\t").replacing("\\134", with: "\\")
            if path.hasPrefix(directory + "/") { return path }
        }
        return nil
    }

    private static func list(_ paths: [String]) throws -> [ProcessInside] {
        var found: [ProcessInside] = []
        let proc = try Directory("/proc")
        for entry in try proc.entries() {
            guard let pid = Int32(entry.name), let directory = try? proc.open(entry.name) else { continue }
            if let holds = firstLink(directory, paths) {
                let name = ((try? directory.read("comm")) ?? nil)?.split(separator: "\n").first.map(String.init)
                found.append(ProcessInside(pid: pid, name: name ?? "?", holds: holds))
            }
        }
        return found
    }

    private static func firstLink(_ process: borrowing Directory, _ paths: [String]) -> String? {
        for name in ["cwd", "root", "exe"] where isInside(link(process.descriptor, name), paths) { return name }
        guard let files = try? process.open("fd"), let entries = try? files.entries() else { return nil }
        for entry in entries where isInside(link(files.descriptor, entry.name), paths) { return "fd \(entry.name)" }
        return nil
    }

    private static func link(_ directory: CInt, _ name: String) -> String {
        // There are some hundreds of these for a look at the whole machine, so no array is made for each.
        withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
            let count = readlinkat(
                directory, name, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
            // What is no path (`socket:[1]`, `pipe:[2]`) lies nowhere.
            guard count > 0, buffer[0] == UInt8(ascii: "/") else { return "" }
            return String(decoding: buffer[..<count], as: UTF8.self)
        }
    }

    private static func isInside(_ link: String, _ paths: [String]) -> Bool {
        link.hasPrefix("/") && paths.contains { WorktreeEngine.isInside(link, $0) }
    }
}
