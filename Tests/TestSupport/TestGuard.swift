import CLinux
import Glibc

/// A process that unmounts and removes what this process has mounted and made, once this one has ended, however it ended:
/// a test run that is interrupted leaves neither mounts nor directories.
enum TestGuard {
    /// Takes one path in a line. The guard reads to the end of the file, which comes when this process ends.
    private static let pipe: CInt = {
        var ends: [CInt] = [-1, -1]
        guard pipe2(&ends, O_CLOEXEC) == 0 else { fatalError("pipe2: errno \(errno)") }
        // Newest first: a mount in a mount, a directory in a directory. What is gone already is no matter.
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

    /// Remembers a directory or a mount point. Lines of less than PIPE_BUF bytes are not mixed with those of other threads.
    /// See: man 7 pipe
    static func add(_ path: String) {
        let line = Array("\(path)\n".utf8)
        guard line.count < 4096, write(pipe, line, line.count) == line.count else {
            fatalError("cannot tell the guard of \(path): errno \(errno)")
        }
    }
}
