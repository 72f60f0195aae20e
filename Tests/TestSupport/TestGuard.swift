import CLinux
import Glibc

/// Unmounts and removes what this process leaves behind, even when it is killed: another process does it, as soon as this
/// one has ended.
enum TestGuard {
    /// Receives one path a line. The end of the file means that this process has ended.
    private static let pipe: CInt = {
        var ends: [CInt] = [-1, -1]
        guard pipe2(&ends, O_CLOEXEC) == 0 else { fatalError("pipe2: errno \(errno)") }
        // Newest first, since mounts and directories nest. What is gone already is ignored.
        let script = """
            while IFS= read -r path; do set -- "$path" "$@"; done
            for path do umount -l "$path"; done
            for path do find "$path" -xdev -type d -exec chmod u+rwx {} +; rm -rf --one-file-system "$path"; done
            """
        var child: pid_t = 0
        let words: [String] = ["/bin/sh", "-c", script]
        let variables: [String] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        let arguments = words.map { strdup($0) } + [nil]
        let environment = variables.map { strdup($0) } + [nil]
        defer { (arguments + environment).forEach { free($0) } }
        // A session of its own, which Ctrl-C does not reach.
        let failure = linux_spawn_leader(&child, "/", ends[0], "/dev/null", arguments, environment)
        guard failure == 0 else { fatalError("posix_spawn of /bin/sh: errno \(failure)") }
        close(ends[0])
        return ends[1]
    }()

    /// Registers a directory or a mount point. Writes of less than PIPE_BUF bytes do not mix with those of other threads.
    /// See: man 7 pipe
    static func add(_ path: String) {
        let line = Array("\(path)\n".utf8)
        guard line.count < 4096, write(pipe, line, line.count) == line.count else {
            fatalError("cannot register \(path) with the guard: errno \(errno)")
        }
    }
}
