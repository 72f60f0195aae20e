import Glibc
import WorktreeEngine

/// The three standard streams: the answer to stdout, everything else to stderr.
package enum Console {
    /// A person sits at both ends.
    package static var isInteractive: Bool { isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 }

    /// A person reads the answer.
    package static var isRead: Bool { isatty(STDOUT_FILENO) == 1 }

    /// Writes the answer and a line end. A reader that has gone away wanted no more; any other failure is reported,
    /// since an answer that got lost on a full disk is none.
    package static func answer(_ text: String) throws {
        guard let errno = write(text + "\n", to: STDOUT_FILENO), errno != EPIPE else { return }
        throw Failure(
            .system,
            "the answer could not be written to stdout: \(String(cString: strerror(errno))). What was asked is done.")
    }

    /// Writes a line to stderr. There is nobody to tell when that fails.
    package static func tell(_ text: String) {
        _ = write(text + "\n", to: STDERR_FILENO)
    }

    /// Asks a person on the terminal; nil at the end of the input.
    package static func ask(_ question: String) -> String? {
        _ = write(question, to: STDERR_FILENO)
        return readLine()
    }

    /// See: man 2 write
    /// - Returns: the errno of a failure.
    private static func write(_ text: String, to descriptor: CInt) -> CInt? {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR { return errno }
            done += max(count, 0)
        }
        return nil
    }
}
