import CLinux
import Glibc
import SystemPackage

/// Moves and removals in directories whose owner has taken his own right to write away.
extension Directory {
    /// Moves a directory of ours to another parent, also one that is read-only, or whose old or new parent is.
    ///
    /// A directory that gets another parent has to be writable itself, since its `..` changes. See: man 2 rename (EACCES)
    /// The moved directory keeps the rights that its owner needs for that; both parents get their modes back.
    /// - Throws: ``SystemError`` as ``rename(_:to:as:)``, also where this user does not own what would have to be changed.
    func moveDirectory(_ name: String, to target: borrowing Directory, as newName: String) throws(SystemError) {
        do { return try rename(name, to: target, as: newName) } catch {
            guard error.errno == .permissionDenied else { throw error }
        }
        let source = try WritePermission(in: self)
        let destination = try WritePermission(in: target)
        defer {
            source.end()
            destination.end()
        }
        try giveRights(name.utf8CString.map(\.self))
        try rename(name, to: target, as: newName)
    }

    /// Does something in a directory of ours that takes the right to write to it, also when its mode forbids that.
    func whileWritable(_ body: () throws(SystemError) -> Void) throws(SystemError) {
        do { return try body() } catch { guard error.errno == .permissionDenied else { throw error } }
        let permission = try WritePermission(in: self)
        defer { permission.end() }
        try body()
    }

    /// Adds the owner's rights to the mode of a directory of ours, which are there unless somebody took them away.
    func giveOwnRights() throws(SystemError) { _ = try addRights(0o700) }

    /// The permission bits of an entry, not followed.
    func mode(of name: String) throws(SystemError) -> mode_t {
        var value = stat()
        try system("fstatat", "\(path)/\(name)") { fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) }
        return value.st_mode & 0o7777
    }

    /// - Returns: the former mode; nil when it had these rights, or is not this user's to change.
    fileprivate func addRights(_ rights: mode_t) throws(SystemError) -> mode_t? {
        var value = stat()
        try system("fstat", path) { fstat(descriptor, &value) }
        let mode = value.st_mode & 0o7777
        guard mode & rights != rights, value.st_uid == geteuid() else { return nil }
        try system("fchmod", path) { fchmod(descriptor, mode | rights) }
        return mode
    }
}

/// The right to write to a directory, for a while.
private struct WritePermission: ~Copyable {
    private let descriptor: CInt
    private let formerMode: mode_t?

    /// - Parameter directory: outlives this.
    init(in directory: borrowing Directory) throws(SystemError) {
        descriptor = directory.descriptor
        formerMode = try directory.addRights(0o300)
    }

    /// Gives the mode back. A failure leaves the directory writable for its owner.
    borrowing func end() { if let formerMode { fchmod(descriptor, formerMode) } }
}
