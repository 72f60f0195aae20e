import CLinux
import Glibc
import SystemPackage

extension Directory {
    /// Gives everything below this directory to `body`, in no order, through no symbolic link and into no mount. What may
    /// not be read is left out.
    ///
    /// Names and paths are bytes that end in 0, as they need not be UTF-8.
    /// - Parameters:
    ///   - start: a directory below this one to begin at; this one when empty.
    ///   - body: gets the path of a directory below this one, its descriptor, and an entry of it with its type (`DT_*`).
    func forEachBelow(
        _ start: [CChar] = [0],
        _ body: (_ parent: [CChar], _ descriptor: CInt, _ name: [CChar], _ type: UInt8) throws -> Void
    ) rethrows {
        var pending = [start]
        while let parent = pending.popLast() {
            guard let directory = parent.count == 1 ? try? open(".") : try? openBeneath(raw: parent),
                let entries = try? directory.rawEntries()
            else { continue }
            for entry in entries {
                try body(parent, directory.descriptor, entry.name, entry.type)
                // One of an unknown type is tried: what is no directory cannot be opened as one.
                if [UInt8(DT_DIR), UInt8(DT_UNKNOWN)].contains(entry.type) {
                    pending.append(parent.count == 1 ? entry.name : parent.dropLast() + [CChar(47)] + entry.name)
                }
            }
        }
    }
}

extension Directory {
    /// Names of all entries but `.` and `..` as bytes, since names need not be UTF-8, with their types (`DT_*`).
    func rawEntries() throws(SystemError) -> [(name: [CChar], type: UInt8)] {
        let copy = try system("openat", path) { linux_openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) }
        guard let stream = fdopendir(copy) else {
            close(copy)
            throw .last("fdopendir", path)
        }
        defer { closedir(stream) }
        var result: [([CChar], UInt8)] = []
        while true {
            Glibc.errno = 0
            guard let entry = readdir(stream) else {
                if Glibc.errno != 0 { throw .last("readdir", path) }
                return result
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { base in
                    Array(UnsafeBufferPointer(start: base, count: strlen(base) + 1))
                }
            }
            if strcmp(name, ".") != 0, strcmp(name, "..") != 0 { result.append((name, entry.pointee.d_type)) }
        }
    }
}

extension Directory {
    /// Gives each name but `.` and `..`, and its type (`DT_*`), without a copy of any. To be called once: it moves the
    /// position of the descriptor. Names that come or go meanwhile may be missed. See: man 2 getdents64
    func forEachName(_ body: (UnsafePointer<CChar>, UInt8) -> Void) throws(SystemError) {
        let failed = withUnsafeTemporaryAllocation(byteCount: 1 << 15, alignment: 8) { buffer in
            while true {
                let size = linux_getdents64(descriptor, buffer.baseAddress!, buffer.count)
                if size <= 0 { return size < 0 }
                var offset = 0
                while offset < size {
                    // `ino` 8 bytes, `off` 8, `reclen` 2, `type` 1, name.
                    let record = UnsafeRawPointer(buffer.baseAddress!) + offset
                    offset += Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
                    let name = (record + 19).assumingMemoryBound(to: CChar.self)
                    if strcmp(name, ".") == 0 || strcmp(name, "..") == 0 { continue }
                    body(name, record.load(fromByteOffset: 18, as: UInt8.self))
                }
            }
        }
        if failed { throw .last("getdents64", path) }
    }
}

/// A name of ``Directory/rawEntries()`` for a message.
func text(_ name: [CChar]) -> String { name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) } }
