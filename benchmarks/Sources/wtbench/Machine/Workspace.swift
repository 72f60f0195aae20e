import CBaseline
import Dispatch
import Foundation
import Glibc

/// The directory that holds everything a run of the benchmarks makes. It lies on the filesystem that is measured, and
/// goes at the end, also after SIGINT and SIGTERM.
struct Workspace: Sendable {
    let path: String

    /// Makes a new directory in `directory`.
    init(in directory: String) throws {
        var template = Array("\(directory)/wtbench.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw Failure("\(Failure(errno: "mkdtemp", directory)). Give a directory that you may write, with --dir.")
        }
        let made = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard let real = realpath(made, nil) else { throw Failure(errno: "realpath", made) }
        defer { Glibc.free(real) }
        path = String(cString: real)
    }

    /// Makes a directory in it.
    func directory(_ name: String) throws -> String {
        let made = "\(path)/\(name)"
        guard mkdir(made, 0o700) == 0 else { throw Failure(errno: "mkdir", made) }
        return made
    }

    /// Removes it all.
    func remove() async throws {
        openTemplates()
        try await Command.require(["rm", "-rf", "--", path])
    }

    /// On btrfs the engine's templates are read-only subvolumes: their files cannot be deleted until they are not.
    private func openTemplates() {
        var found = glob_t()
        defer { globfree(&found) }
        guard glob("\(path)/subject-*/root/.wtengine/*/*/files", 0, nil, &found) == 0 else { return }
        for index in 0..<Int(found.gl_pathc) { bench_subvolume_writable(found.gl_pathv[index]) }
    }

    /// Bytes and inodes that are free on its filesystem. On tmpfs, no more than the memory that is free.
    func free() throws -> (bytes: UInt64, files: UInt64) {
        var value = statvfs()
        guard statvfs(path, &value) == 0 else { throw Failure(errno: "statvfs", path) }
        var bytes = UInt64(value.f_bavail) * UInt64(value.f_frsize)
        if bench_filesystem(path) == 0x0102_1994 { bytes = min(bytes, Machine.availableMemory) }
        // btrfs counts no inodes.
        return (bytes, value.f_files == 0 ? .max : UInt64(value.f_favail))
    }

    /// Waits until the filesystem has written out everything.
    func settle() throws {
        guard bench_sync(path) == 0 else { throw Failure(errno: "syncfs", path) }
    }

    /// Removes it, then ends the process, when one of the signals comes. Keep the result.
    func removeOnSignals() -> [any DispatchSourceSignal] {
        [SIGINT, SIGTERM, SIGHUP].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { [self] in
                openTemplates()
                // Processes of the group that got the signal as well may still write for a moment.
                for _ in 0..<3 where (try? FileManager.default.removeItem(atPath: path)) == nil { usleep(300_000) }
                _exit(128 + number)
            }
            source.resume()
            return source
        }
    }
}
