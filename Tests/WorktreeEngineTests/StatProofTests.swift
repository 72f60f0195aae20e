import CLinux
import Foundation
import Git
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// One state of a workdir, and what the proof by stat data may say of it.
struct ProofCase: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let script: String
    /// What stands beside the tracked files; nil when nothing may be proved.
    let extras: Set<String>?
    /// `kind path` of the plan.
    let risks: Set<String>

    static func holds(_ name: String, _ script: String, _ extras: Set<String> = [], risks: String...) -> ProofCase {
        ProofCase(testDescription: name, script: script, extras: extras, risks: Set(risks))
    }

    static func fails(_ name: String, _ script: String, risks: String...) -> ProofCase {
        ProofCase(testDescription: name, script: script, extras: nil, risks: Set(risks))
    }
}

@Suite struct StatProofTests {
    @Test(arguments: ProofCase.clean + ProofCase.beside)
    func `a workdir with its tracked files as they were is proved clean`(_ state: ProofCase) async throws {
        try await check(state)
    }

    @Test(arguments: ProofCase.edits + ProofCase.otherKinds + ProofCase.indexes)
    func `whatever is not plain is not proved`(_ state: ProofCase) async throws { try await check(state) }

    @Test func `every materializer's workdir is proved clean where libgit2 reads the repository`() async throws {
        let clone = try await RunFixture(.clone)
        try await age("\(clone.path)/.git", clone)
        let state = try WorkingState.native(
            WorkingPlace(gitDir: "\(clone.path)/.git", commonDir: "\(clone.path)/.git", workdir: clone.path), nil)
        #expect(state?.extras?.isEmpty == true)
        #expect(try await clone.engine.planCleanup(clone.key).risks.isEmpty)
    }

    /// The plan must be the same whether directories were noted when the workdir was fresh or are all listed, by the
    /// proof and by the full inspection: an index older than every file makes all entries racy, which leaves nothing to
    /// prove.
    private func check(_ state: ProofCase) async throws {
        let run = try await RunFixture()
        let gitDir = try await run.sh("git rev-parse --absolute-git-dir").trimmingCharacters(in: .newlines)
        let notes = "\(gitDir)/\(DirectoryTimes.fileName)"
        try await noteDirectories(of: run.path, in: notes)
        try await run.sh(state.script)
        let place = WorkingPlace(gitDir: gitDir, commonDir: "\(run.repository.path)/.git", workdir: run.path)
        func extras() -> Set<String>? {
            let extras = try? WorkingState.native(place, nil)?.extras
            return extras.map { Set($0.map { String(decoding: $0.path, as: UTF8.self) }) }
        }
        #expect(extras() == state.extras)
        let plan = try await run.engine.planCleanup(run.key)
        let found = Set(plan.risks.map { "\($0.kind.rawValue) \($0.path)" })
        #expect(found == state.risks)
        try FileManager.default.removeItem(atPath: notes)
        #expect(extras() == state.extras)
        #expect(try await run.engine.planCleanup(run.key).token == plan.token)

        if FileManager.default.fileExists(atPath: "\(gitDir)/index") {
            try await run.sh("touch -d 1990-01-01 '\(gitDir)/index'")
            #expect((try? WorkingState.native(place, nil)?.extras) == nil)
            let full = try await run.engine.planCleanup(run.key)
            #expect(full.token == plan.token, "\(full.risks) \(full.ignored)")
        }
    }

    /// Makes no entry racy: git writes an index in the second of its files.
    private func age(_ gitDir: String, _ run: RunFixture) async throws {
        try await run.sh(
            "git ls-files -z | xargs -0 touch -h -d 2020-01-01 --; git update-index -q --refresh; git read-tree -m HEAD"
        )
    }

    /// They lead elsewhere than to what a directory lists. git puts none of them into an index, so bytes are exchanged.
    @Test(arguments: [("aa/f", "../f"), ("a/f", "./f"), ("d/aaaa/f", "d/.git/f"), ("d/aa", "d/.."), ("a/f", "//f")])
    func `an index with a path that git would not check out proves nothing`(_ path: String, _ other: String)
        async throws
    {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile(path)])
        let file = "\(repository.path)/.git/index"
        #expect(IndexLayout(try IndexFile(path: file)) != nil)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: file))
        let place = try #require(bytes.range(of: Data(path.utf8)))
        bytes.replaceSubrange(place, with: Data(other.utf8))
        try bytes.write(to: URL(fileURLWithPath: file))
        #expect(IndexLayout(try IndexFile(path: file)) == nil)
    }

    /// What a plan has read beside its look at the processes may be old by the time that it is used.
    @Test func `an index that was replaced since it was read is read again`() async throws {
        let run = try await RunFixture()
        let gitDir = try await run.sh("git rev-parse --absolute-git-dir").trimmingCharacters(in: .newlines)
        let tracked = try #require(TrackedFiles(gitDir: gitDir, isForeign: false))
        let place = WorkingPlace(
            gitDir: gitDir, commonDir: "\(run.repository.path)/.git", workdir: run.path, tracked: tracked)
        #expect(tracked.isCurrent(gitDir))
        #expect(try WorkingState.native(place, nil)?.extras?.isEmpty == true)
        // The file stays as the old index says.
        try await run.sh("git rm -q --cached README.md")
        #expect(!tracked.isCurrent(gitDir))
        let state = try #require(try WorkingState.native(place, nil))
        #expect(state.extras == nil && state.status.contains { $0.isStaged })
        try await run.sh("rm \(gitDir)/index")
        #expect(!tracked.isCurrent(gitDir))
    }

    /// Files are stamped by a clock that is some milliseconds behind, and so in the second before for a while.
    @Test func `a checkout that begins right after a full second leaves no racy entry`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let commonDir = "\(repository.path)/.git"
        let handle = try Repository(gitDirectory: commonDir)
        let flat = try handle.flatten(tree: handle.tree(ofCommit: handle.commit("HEAD")))
        let workdir = "\(scratch.path)/workdir"
        try FileManager.default.createDirectory(atPath: workdir, withIntermediateDirectories: false)
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        try await Task.sleep(for: .nanoseconds(1_000_000_000 - now.tv_nsec) - .milliseconds(20))
        let second = now.tv_sec
        while now.tv_sec == second { clock_gettime(CLOCK_REALTIME, &now) }
        let checkout = Checkout(commonDir: commonDir, flat: flat, conversion: .none, workers: 1)
        try Directory(scratch.path).createIndex(of: checkout, checkout.fill(workdir))
        let index = try IndexFile(path: "\(scratch.path)/index")
        #expect(index.entries.count == 1 && !index.hasRacyEntries)
    }

    @Test func `a directory of many files and a deep one are walked`() async throws {
        let scratch = try Scratch()
        let files = (0..<300).map { TestFile("wide/\($0 % 7 == 0 ? "a-" : "a/")\($0)") }
        let deep = (1..<60).map { TestFile(String(repeating: "d/", count: $0) + "f") }
        let repository = try await scratch.repository("repo", files + deep + [TestFile("d.d"), TestFile("d0")])
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(
            SpawnRequest(issue: "local#1", run: "2026-02-14-qa-0001", repository: repository.path))
        let gitDir = try await sh("git rev-parse --absolute-git-dir", in: workdir.path)
            .trimmingCharacters(in: .newlines)
        let place = WorkingPlace(gitDir: gitDir, commonDir: "\(repository.path)/.git", workdir: workdir.path)
        #expect(try WorkingState.native(place, nil)?.extras?.isEmpty == true)
        try await sh("echo x >\(String(repeating: "d/", count: 59))g", in: workdir.path)
        #expect(try WorkingState.native(place, nil)?.extras?.count == 1)
        try await sh("touch \(String(repeating: "d/", count: 59))f", in: workdir.path)
        #expect(try WorkingState.native(place, nil)?.extras == nil)
    }
}

extension ProofCase {
    static let clean: [Self] = [
        .holds("fresh", ":"),
        .holds("status was asked", "git status >/dev/null; git diff HEAD"),
        .holds("detached", "git checkout -q --detach"),
        .holds("an edit committed", "echo x >>README.md; touch -d 2020-01-01 README.md; git commit -qam x"),
    ]

    static let beside: [Self] = [
        .holds(
            "no longer tracked, and left where it is", "git rm -q --cached sub/data.dat; git commit -qm x",
            ["sub/data.dat"], risks: "untracked sub/data.dat"),
        .holds(
            "untracked in a directory below", "echo x >sub/deep/er/new", ["sub/deep/er/new"],
            risks: "untracked sub/deep/er/new"),
        .holds(
            "untracked, and the time of its directory set back",
            "touch -r sub $ROOT/time; echo x >sub/new; touch -r $ROOT/time sub", ["sub/new"],
            risks: "untracked sub/new"),
        .holds(
            "untracked, with another file moved away for it",
            "git mv sub/data.dat data.dat; git commit -qm x; touch sub/new", ["sub/new"],
            risks: "untracked sub/new"),
        .holds("empty directory", "mkdir -p new/er", ["new"]),
        .holds("ignored", "echo x >a.log; mkdir build; echo x >build/x", ["a.log", "build"]),
        .holds("untracked", "echo x >sub/new", ["sub/new"], risks: "untracked sub/new"),
        .holds(
            "names that are parts of tracked ones", "touch READM README.md2; mkdir su sub0; touch su/b sub0/data.dat",
            ["READM", "README.md2", "su", "sub0"], risks: "untracked READM", "untracked README.md2", "untracked su/b",
            "untracked sub0/data.dat"),
        .holds("pipe", "mkfifo pipe", ["pipe"], risks: "untracked pipe"),
        .holds("link to nowhere", "ln -s nowhere dangling", ["dangling"], risks: "untracked dangling"),
        .holds(
            "empty repository", "git init -q dep", ["dep"], risks: "untracked dep/", "nested-repository dep"),
        .holds(
            "empty repository in an ignored directory", "mkdir build; git init -q build/dep", ["build"],
            risks: "nested-repository build/dep"),
        .holds(
            "untracked and ignored in one directory", "mkdir -p new/build; touch new/build/x new/x.log new/y",
            ["new"], risks: "untracked new/y"),
        .holds(
            "ignore rules of an untracked directory", "mkdir new; echo '!x.log' >new/.gitignore; touch new/x.log",
            ["new"], risks: "untracked new/.gitignore", "untracked new/x.log"),
    ]

    static let edits: [Self] = [
        .fails(
            "edited, size and time kept",
            "cp -p README.md $ROOT/kept; printf 'jello\\n' >README.md; touch -r $ROOT/kept README.md",
            risks: "modified README.md"),
        .fails("copied over, content and time kept", "cp -p README.md $ROOT/k; rm README.md; cp -p $ROOT/k README.md"),
        .fails("touched", "touch README.md"),
        .fails("mode", "chmod +x README.md", risks: "modified README.md"),
        .fails("mode and back", "chmod +x README.md; chmod -x README.md"),
        .fails("another hard link", "ln README.md $ROOT/hard"),
        .fails(
            "replaced by a hard link to another tracked file", "ln -f empty README.md", risks: "modified README.md"),
        .fails("link replaced by the same", "rm link; ln -s README.md link"),
        .fails("link to elsewhere", "ln -sfn bin/run link", risks: "modified link"),
        .fails("deleted", "rm sub/deep/er/file.bat", risks: "modified sub/deep/er/file.bat"),
        .fails("renamed", "mv README.md READM", risks: "modified README.md", "untracked READM"),
    ]

    static let otherKinds: [Self] = [
        .fails(
            "file replaced by a directory", "rm README.md; mkdir README.md; echo x >README.md/x",
            risks: "modified README.md", "untracked README.md/x"),
        .fails("file replaced by a pipe", "rm README.md; mkfifo README.md", risks: "modified README.md"),
        .fails(
            "directory replaced by a link to a copy", "cp -a bin $ROOT/bin; rm -r bin; ln -s $ROOT/bin bin",
            risks: "modified bin/run", "untracked bin"),
        .fails("repository in a tracked directory", "git init -q sub", risks: "nested-repository sub"),
    ]

    static let indexes: [Self] = [
        .fails(
            "staged, the file is as in the index", "echo x >>README.md; touch -d 2020-01-01 README.md; git add .",
            risks: "staged README.md"),
        .fails(
            "staged, with a valid cache-tree",
            "echo x >>README.md; touch -d 2020-01-01 README.md; git add .; git write-tree", risks: "staged README.md"),
        .fails("forgotten", "git rm -q --cached README.md", risks: "staged README.md", "untracked README.md"),
        .fails("announced", "echo x >new; git add -N new", risks: "staged new", "modified new"),
        .fails("hidden", "git update-index --assume-unchanged README.md"),
        .fails(
            "hidden and edited", "git update-index --assume-unchanged README.md; echo x >>README.md",
            risks: "hidden README.md"),
        .fails("not wanted", "git update-index --skip-worktree README.md"),
        .fails("mtime in the future", "touch -d '2 days' README.md; git update-index --refresh"),
        .fails("no cache-tree", "git update-index --force-remove README.md; git update-index --add README.md"),
        .fails(
            "another HEAD",
            "git commit -qm x --allow-empty; git rm -q zero; git commit -qm y; git reset -q --soft HEAD~",
            risks: "staged zero"),
    ]
}
