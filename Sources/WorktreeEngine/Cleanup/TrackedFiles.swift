import Git
import SystemPackage

/// What an index says of the files of a workdir, laid out by directories, with what was noted of those.
struct TrackedFiles: Sendable {
    let index: IndexFile
    let layout: IndexLayout
    let times: DirectoryTimes
    private let version: FileVersion

    /// Reads an index. That takes about as long as a look at every process, so the two are done side by side.
    /// - Returns: nil where a comparison of stat data decides nothing: the index is missing or of another form, has an entry
    ///   that is racy, hidden, of a merge or of a submodule, or a path that git would not check out.
    /// - Parameter isForeign: what an agent's own git directory says of times was not written here.
    init?(gitDir: String, isForeign: Bool) {
        // Before it is read: what is replaced meanwhile has another version than this.
        guard let version = Self.version(gitDir), let index = try? IndexFile(path: "\(gitDir)/index"), index.isPlain,
            !index.hasRacyEntries, let layout = IndexLayout(index)
        else { return nil }
        self.index = index
        self.layout = layout
        self.version = version
        times = isForeign ? DirectoryTimes([]) : DirectoryTimes(in: gitDir)
    }

    /// Whether the index is still the one that was read. git never changes one in place. See: git `lockfile.h`
    func isCurrent(_ gitDir: String) -> Bool { Self.version(gitDir) == version }

    private static func version(_ gitDir: String) -> FileVersion? { try? Directory(gitDir).fileVersion("index") }
}
