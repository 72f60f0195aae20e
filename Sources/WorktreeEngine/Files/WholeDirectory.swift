import Glibc
import SystemPackage

/// A directory of files that stands there whole or not at all, also after a crash. For what belongs to a run but lies
/// beside its workdir. Both calls block.
package enum WholeDirectory {
    /// Makes it, for its owner only, and waits until it is on disk.
    /// - Parameters:
    ///   - name: does not begin with a dot.
    ///   - parent: an absolute path; made when it is missing.
    /// - Returns: false, with nothing changed, when the name is taken.
    /// - Throws: ``EngineError``.
    package static func create(
        _ name: String, in parent: String, files: [(name: String, text: String)]
    ) throws(EngineError) -> Bool {
        var attempts = 0
        while true {
            do { return try make(name, parent, files) } catch {
                attempts += 1
                // The removal of the last other entry took the parent away meanwhile.
                guard error.errno == .noSuchFileOrDirectory, attempts < 100 else {
                    throw .wrap(error, "writing \(parent)/\(name)")
                }
            }
        }
    }

    private static func make(
        _ name: String, _ parent: String, _ files: [(name: String, text: String)]
    ) throws(SystemError) -> Bool {
        try makeDirectories(parent)
        let parent = try Directory(parent)
        if try parent.contains(name) { return false }
        let aside = ".new-\(name)"
        // What a crash left half-made.
        try TreeDeletion.delete(aside, in: parent)
        try parent.makeDirectory(aside, mode: 0o700)
        let directory = try parent.open(aside)
        for file in files { try directory.create(file.name, file.text, sync: true) }
        let descriptor = directory.descriptor
        try system("fsync", directory.path) { fsync(descriptor) }
        do { try parent.rename(aside, to: parent, as: name) } catch {
            guard error.errno == .fileExists else { throw error }
            try TreeDeletion.delete(aside, in: parent)
            return false
        }
        let parentDescriptor = parent.descriptor
        try system("fsync", parent.path) { fsync(parentDescriptor) }
        return true
    }

    /// Removes it with all that was put into it meanwhile, and its parent when nothing else is there. One that does not
    /// exist is no error.
    /// - Throws: ``EngineError``; what is left has another name by then, and goes with another call.
    package static func remove(_ name: String, in parent: String) throws(EngineError) {
        do { try unmake(name, parent) } catch { throw .wrap(error, "removing \(parent)/\(name)") }
    }

    private static func unmake(_ name: String, _ path: String) throws(SystemError) {
        let parent: Directory
        do { parent = try Directory(path) } catch {
            if error.errno == .noSuchFileOrDirectory { return }
            throw error
        }
        let aside = ".old-\(name)"
        try TreeDeletion.delete(aside, in: parent)
        do { try parent.rename(name, to: parent, as: aside) } catch {
            guard error.errno == .noSuchFileOrDirectory else { throw error }
        }
        try TreeDeletion.delete(aside, in: parent)
        if rmdir(path) != 0, ![ENOTEMPTY, EEXIST, ENOENT].contains(errno) { throw .last("rmdir", path) }
    }
}
