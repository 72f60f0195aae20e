import CLinux
import Glibc

/// What binds a token to the very state of something: a later edit makes another one.
enum Fingerprint {
    /// A path without loss, whatever bytes it has: those that are not printable, and `%`, as `%XX`.
    static func text(of path: [UInt8]) -> String {
        path.map { byte in
            (33..<127).contains(byte) && byte != UInt8(ascii: "%")
                ? String(UnicodeScalar(byte)) : "%" + String(byte, radix: 16)
        }.joined()
    }

    /// The state of a file at risk, or of all files of a directory.
    /// - Parameters:
    ///   - path: below the workdir, or absolute when it lies elsewhere, where nothing is looked at.
    ///   - workdir: nil when it is gone.
    static func of(_ path: [UInt8], in workdir: String?) -> String {
        guard let workdir, path.first != UInt8(ascii: "/"), let top = try? Directory(workdir) else { return "-" }
        let bytes = path.last == UInt8(ascii: "/") ? path.dropLast() : path[...]
        let name = bytes.map { CChar(bitPattern: $0) } + [0]
        var value = stat()
        guard fstatat(top.descriptor, name, &value, AT_SYMLINK_NOFOLLOW) == 0 else { return "-" }
        guard value.st_mode & S_IFMT == S_IFDIR else { return line(value) }
        // A nested repository: its files, and its objects and references, but not what a mere `git status` writes.
        let index = Array("index\0".utf8).map { CChar(bitPattern: $0) }
        let gitDirectory = Array(".git\0".utf8).map { CChar(bitPattern: $0) }
        var lines: [String] = []
        top.forEachBelow(bytes.elementsEqual(".".utf8) ? [0] : name) { parent, directory, name, _ in
            let isInGit = parent == gitDirectory || parent.suffix(6).elementsEqual([CChar(47)] + gitDirectory)
            if isInGit, name == index { return }
            let found = fstatat(directory, name, &value, AT_SYMLINK_NOFOLLOW) == 0
            if found, value.st_mode & S_IFMT == S_IFDIR { return }
            let path = (parent.dropLast() + [CChar(47)] + name.dropLast()).map { UInt8(bitPattern: $0) }
            lines.append("\(text(of: path)) \(found ? line(value) : "-")")
        }
        return lines.sorted().joined(separator: "\n")
    }

    /// The change time as well: an edit can set the modification time back. A move of the workdir leaves both.
    private static func line(_ value: stat) -> String {
        "\(value.st_ino) \(value.st_size) \(value.st_mode) \(value.st_mtim.tv_sec).\(value.st_mtim.tv_nsec) "
            + "\(value.st_ctim.tv_sec).\(value.st_ctim.tv_nsec)"
    }
}
