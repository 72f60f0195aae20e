import Glibc

/// Reads a small text that somebody else wrote, and trusts nothing about it.
package enum TextFile {
    /// Why a file was not read.
    package enum Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// A symbolic link, where none is followed.
        case link
        /// A directory, FIFO, socket or device.
        case notRegular
        /// More bytes than the limit.
        case tooLarge(limit: Int)
        /// Not UTF-8, or with a NUL, which would end the text unseen wherever it goes through C.
        case notText
        /// A system call failed, with this `errno`.
        case system(CInt)

        /// A clause that goes on from the file's name.
        package var description: String {
            switch self {
            case .link: "is a symbolic link. Put the file itself there."
            case .notRegular: "is not a regular file. Put a text file there."
            case .tooLarge(let limit): "is larger than \(limit >> 10) KiB. Shorten it."
            case .notText: "is not a text file in UTF-8. Save it as one."
            case .system(EISDIR): "is a directory. Put a file in its place."
            case .system(let errno):
                "cannot be read: \(String(cString: strerror(errno))). Give this user the right to it, or remove it."
            }
        }
    }

    /// The text of a file; nil when there is none.
    /// - Parameters:
    ///   - path: relative to `directory` when it is relative.
    ///   - directory: an open directory, or the current one.
    ///   - limit: the largest size in bytes.
    ///   - followsLinks: whether the last component may be a symbolic link.
    package static func read(
        _ path: String, in directory: CInt = AT_FDCWD, limit: Int = 1 << 20, followsLinks: Bool = true
    ) throws(Refusal) -> String? {
        // O_NONBLOCK: a FIFO in this place is no reason to wait for a writer. See: man 2 open
        let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (followsLinks ? 0 : O_NOFOLLOW)
        let file = openat(directory, path, flags)
        guard file >= 0 else {
            switch errno {
            case ENOENT: return nil
            case ELOOP where !followsLinks: throw .link
            // What open says of a socket.
            case ENXIO: throw .notRegular
            default: throw .system(errno)
            }
        }
        defer { close(file) }
        var value = stat()
        guard fstat(file, &value) == 0 else { throw .system(errno) }
        // What reading a directory says.
        if value.st_mode & S_IFMT == S_IFDIR { throw .system(EISDIR) }
        guard value.st_mode & S_IFMT == S_IFREG else { throw .notRegular }
        guard value.st_size <= limit else { throw .tooLarge(limit: limit) }
        let bytes = try bytes(of: file, limit: limit)
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else { throw .notText }
        return text
    }

    /// Up to the end and not up to the size: it may grow meanwhile.
    private static func bytes(of file: CInt, limit: Int) throws(Refusal) -> [UInt8] {
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = Glibc.read(file, &block, block.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw .system(errno) }
            if count == 0 { return bytes }
            bytes += block[..<count]
            guard bytes.count <= limit else { throw .tooLarge(limit: limit) }
        }
    }
}
