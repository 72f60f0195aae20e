import CLinux
import Glibc
package import SystemPackage

/// What a process says, in a file in memory: unlike a pipe it needs nobody who reads it meanwhile, so that nothing waits
/// for its end but for the process's. More than its limit is refused to the process as a failed write.
package struct MemoryFile: ~Copyable {
    package let descriptor: FileDescriptor

    /// - Parameter limit: in bytes.
    package init(limit: Int) throws {
        descriptor = FileDescriptor(
            rawValue: try system("memfd_create", "output") { linux_bounded_memory_file("output", off_t(limit)) })
    }

    deinit { try? descriptor.close() }

    /// All that was written: the file's offset is shared with the process and stands at its end.
    package func bytes() throws -> [UInt8] {
        let count = lseek(descriptor.rawValue, 0, SEEK_CUR)
        guard count >= 0 else { throw SystemError.last("lseek", "output") }
        var bytes = [UInt8](repeating: 0, count: Int(count))
        var done = 0
        while done < bytes.count {
            let length = bytes.withUnsafeMutableBytes {
                pread(descriptor.rawValue, $0.baseAddress! + done, $0.count - done, off_t(done))
            }
            guard length > 0 else { throw SystemError.last("pread", "output") }
            done += length
        }
        return bytes
    }
}
