import CLinux
import Glibc
import Registry
import SystemPackage

/// An allowlisted directory under which workdirs may exist. Nothing outside the roots is ever deleted.
///
/// `<root>/.wtengine/` holds a marker, the name of the registry that owns the root, `stage/` (workdirs being made) and `trash/` (workdirs being unlinked); it is
/// readable by its owner only, on the same filesystem as the workdirs, so that both ways in and out are one rename.
struct Root: Sendable {
    /// The real path.
    let path: String
    /// The content of the marker file; another content is another filesystem mounted here.
    let marker: String

    static let privateName = ".wtengine"

    /// Checks or makes the private directory of a root, and compares its marker with the registry's.
    static func prepare(_ configured: String, make: Bool, registry: Registry) async throws -> Root {
        // One that was there before was moved, or is not mounted: an empty one would be in the way when it comes back.
        if make, try await registry.rootMarker(configured) == nil { try makeDirectories(configured) }
        guard let path = realPath(configured) else {
            if let marker = try await registry.rootMarker(configured) {
                let own = shellQuoted("\(configured)/\(privateName)")
                throw EngineError(
                    .root, .blocked,
                    "the root \(configured) is gone. Put it back, or mount it; nothing below it is taken for gone. If it was "
                        + "deleted on purpose: mkdir -p -m 700 \(own); echo \(marker) > \(own)/marker")
            }
            throw EngineError(
                .root, .blocked,
                "the root \(configured) does not exist. Mount or create it, or change `roots` of the configuration.")
        }
        let home = getenv("HOME").map { String(cString: $0) }.flatMap(realPath)
        guard path != "/", path != home else {
            throw EngineError(
                .configuration, .needsHuman, "\(path) may not be a root: name a directory of its own in `roots`.")
        }
        let top: Directory
        do { top = try Directory(path) } catch {
            throw EngineError(
                .root, .blocked,
                "the root \(path) cannot be opened as a directory (\(error.errno)). Correct `roots` of the configuration.",
                cause: error)
        }
        if let known = try await registry.rootMarker(path) {
            let root = Root(path: path, marker: known)
            _ = try root.open()
            try claim(top, path, for: registry)
            return root
        }
        try claim(top, path, for: registry)
        // The file first, then the row: a crash in between leaves a marker that the next open adopts.
        let own = try top.openOrMake(privateName, mode: 0o700)
        do { try own.create("marker", randomHex(16) + "\n", sync: true) } catch {
            guard error.errno == .fileExists else { throw error }
        }
        // Whoever has made it may not have written it yet.
        for _ in 0..<1000 where try markerOnDisk(top) == "" { usleep(1000) }
        guard let marker = try markerOnDisk(top), !marker.isEmpty else {
            throw EngineError(.root, .retry, "\(path)/\(privateName)/marker vanished while it was read. Try again.")
        }
        return Root(path: path, marker: try await registry.recordRoot(path, marker: marker))
    }

    /// One root, one registry: what lies in stage and trash belongs to the runs of the registry that empties them. The
    /// root of a registry that is gone may be taken over.
    private static func claim(_ top: borrowing Directory, _ path: String, for registry: Registry) throws {
        let own = try top.openOrMake(privateName, mode: 0o700)
        if try Self.owner(own) == registry.path { return }
        // Two that want it at once: the second sees the name of the first.
        try system("flock", own.path) { flock(own.descriptor, LOCK_EX) }
        // Unlocked, not only closed: a child that another thread has just forked shares the lock until it calls exec.
        defer { flock(own.descriptor, LOCK_UN) }
        let owner = try Self.owner(own)
        if owner == registry.path { return }
        if let owner, access(owner, F_OK) == 0 {
            throw EngineError(
                .root, .blocked,
                "the root \(path) belongs to the registry \(owner). Use its state directory, or name another root for this one."
            )
        }
        try own.replace("owner", registry.path + "\n")
    }

    private static func owner(_ own: borrowing Directory) throws -> String? {
        try own.read("owner").map { String($0.prefix { $0 != "\n" }) }
    }

    /// The root's descriptor, once its marker has been seen: what is missing below a root that is not mounted is not
    /// gone.
    func open() throws -> Directory {
        guard let top = try? Directory(path) else { throw invisible() }
        guard try Root.markerOnDisk(top) == marker else { throw invisible() }
        return top
    }

    /// Opens `stage` or `trash`, creates it when it is missing, and restores the permissions of its owner.
    func openPrivate(_ name: String) throws -> Directory {
        try open().open(Root.privateName).openOwn(name)
    }

    /// `stage`, `trash`, `pool` or `templates` to look at only; nil when there is none. A root that cannot be written may be
    /// looked at too.
    func existingPrivate(_ name: String) throws -> Directory? {
        let own = try open().open(Root.privateName)
        return try own.contains(name) ? own.open(name) : nil
    }

    /// The part of an absolute path below the root; nil when it is not there, or not in normal form.
    func relative(_ path: String) -> String? {
        guard path.hasPrefix(self.path + "/") else { return nil }
        let rest = path.dropFirst(self.path.count + 1)
        let components = rest.split(separator: "/", omittingEmptySubsequences: false)
        guard !components.isEmpty, components.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }),
            components[0] != Root.privateName
        else { return nil }
        return String(rest)
    }

    func stagePath(_ run: Run) -> String { "\(path)/\(Root.privateName)/stage/\(run.adminID)" }
    func trashPath(_ run: Run) -> String { trashPath(run.adminID) }
    func trashPath(_ name: String) -> String { "\(path)/\(Root.privateName)/trash/\(name)" }

    /// Bytes that an unprivileged process may still write. See: man 3 statvfs (f_bavail)
    func freeBytes() throws -> Int64 {
        var value = statvfs()
        try system("statvfs", path) { statvfs(path, &value) }
        return Int64(clamping: UInt64(value.f_bavail) * UInt64(value.f_frsize))
    }

    private func invisible() -> EngineError {
        EngineError(
            .root, .blocked,
            "the root \(path) is not the directory that the registry knows: \(Root.privateName)/marker is missing or another. "
                + "Is it mounted? Nothing below it is taken for gone. If it was emptied on purpose: "
                + "mkdir -m 700 \(path)/\(Root.privateName); echo \(marker) > \(path)/\(Root.privateName)/marker")
    }

    private static func markerOnDisk(_ top: borrowing Directory) throws -> String? {
        guard try top.contains(privateName) else { return nil }
        return try top.open(privateName).read("marker").map { String($0.prefix { $0 != "\n" }) }
    }

}

/// Random bytes as hexadecimal digits.
func randomHex(_ bytes: Int) -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<bytes).map { _ in
        let text = String(UInt8.random(in: .min ... .max, using: &generator), radix: 16)
        return text.count == 1 ? "0" + text : text
    }.joined()
}

/// Makes a directory and those above it, for its owner only.
func makeDirectories(_ path: String) throws(SystemError) {
    var prefix = ""
    for component in path.split(separator: "/") {
        prefix += "/\(component)"
        if mkdir(prefix, 0o700) == 0 || Glibc.errno == EEXIST { continue }
        // A parent that may be searched but not written answers EACCES or EROFS although it exists.
        let failure = SystemError.last("mkdir", prefix)
        var value = stat()
        guard stat(prefix, &value) == 0, value.st_mode & S_IFMT == S_IFDIR else { throw failure }
    }
}
