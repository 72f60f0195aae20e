import CLinux
import Glibc
import SystemPackage

/// Moves and removals in directories that their owner made read-only.
extension Directory {
    /// Moves one of our directories to another parent, even if it or one of the parents is read-only.
    ///
    /// A directory that gets another parent has to be writable itself, since its `..` changes. See: man 2 rename (EACCES)
    /// The directory stays writable; the modes of both parents are restored.
    /// - Throws: ``SystemError`` like ``rename(_:to:as:)``; EACCES or EPERM when this user does not own a directory whose mode
    ///   has to change.
    func moveDirectory(_ name: String, to target: borrowing Directory, as newName: String) throws(SystemError) {
        do { return try rename(name, to: target, as: newName) } catch {
            guard error.errno == .permissionDenied else { throw error }
        }
        let source = try TemporaryWriteAccess(in: self)
        let destination = try TemporaryWriteAccess(in: target)
        defer {
            source.restoreMode()
            destination.restoreMode()
        }
        try addOwnerPermissions(name.utf8CString.map(\.self))
        try rename(name, to: target, as: newName)
    }

    /// Runs `body`. If that fails with EACCES, makes this directory writable for a while and runs `body` again.
    func whileWritable(_ body: () throws(SystemError) -> Void) throws(SystemError) {
        do { return try body() } catch { guard error.errno == .permissionDenied else { throw error } }
        let access = try TemporaryWriteAccess(in: self)
        defer { access.restoreMode() }
        try body()
    }

    /// Opens a directory that only the engine uses. Creates it when it is missing, also in a read-only parent, and restores the
    /// owner's rwx bits if somebody removed them.
    func openOwn(_ name: String) throws(SystemError) -> Directory {
        do {
            let directory = try openOrMake(name, mode: 0o700)
            _ = try directory.addPermissions(0o700)
            return directory
        } catch { guard error.errno == .permissionDenied else { throw error } }
        try whileWritable { () throws(SystemError) in
            do throws(SystemError) { try makeDirectory(name, mode: 0o700) } catch {
                if error.errno != .fileExists { throw error }
            }
        }
        try addOwnerPermissions(name.utf8CString.map(\.self))
        return try open(name)
    }

    /// Returns the permission bits of an entry. Does not follow a symbolic link.
    func mode(of name: String) throws(SystemError) -> mode_t {
        var value = stat()
        try system("fstatat", "\(path)/\(name)") { fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) }
        return value.st_mode & 0o7777
    }

    /// - Returns: the former mode; nil when it had these bits, or when this user does not own the directory.
    fileprivate func addPermissions(_ permissions: mode_t) throws(SystemError) -> mode_t? {
        var value = stat()
        try system("fstat", path) { fstat(descriptor, &value) }
        let mode = value.st_mode & 0o7777
        guard mode & permissions != permissions, value.st_uid == geteuid() else { return nil }
        try system("fchmod", path) { fchmod(descriptor, mode | permissions) }
        return mode
    }
}

/// Makes a directory writable for its owner until ``restoreMode()``.
private struct TemporaryWriteAccess: ~Copyable {
    private let descriptor: CInt
    private let formerMode: mode_t?

    /// - Parameter directory: must outlive this value.
    init(in directory: borrowing Directory) throws(SystemError) {
        descriptor = directory.descriptor
        formerMode = try directory.addPermissions(0o300)
    }

    /// Restores the mode. A failure leaves the directory writable for its owner.
    borrowing func restoreMode() { if let formerMode { fchmod(descriptor, formerMode) } }
}
