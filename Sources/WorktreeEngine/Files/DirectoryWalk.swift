import Glibc

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
