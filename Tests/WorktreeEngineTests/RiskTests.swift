import Foundation
import TestSupport
import Testing
import WorktreeEngine

/// One way to leave work in a workdir, and what a plan must say of it.
struct RiskCase: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let script: String
    /// `kind path`; empty when nothing is at risk.
    let risks: Set<String>

    init(_ name: String, _ script: String, _ risks: String...) {
        testDescription = name
        self.script = script
        self.risks = Set(risks)
    }
}

@Suite struct RiskTests {
    @Test(arguments: RiskCase.files + RiskCase.hidden, [Materializer.checkout, .pool, .git])
    func `work in files`(_ work: RiskCase, _ materializer: Materializer) async throws {
        try await check(work, RunFixture(materializer))
    }

    @Test(arguments: RiskCase.history + RiskCase.operations, [Materializer.checkout, .pool, .git])
    func `work in the history`(_ work: RiskCase, _ materializer: Materializer) async throws {
        try await check(work, RunFixture(materializer))
    }

    @Test(arguments: RiskCase.nested, [Materializer.checkout, .pool, .git])
    func `work in nested repositories`(_ work: RiskCase, _ materializer: Materializer) async throws {
        try await check(work, RunFixture(materializer))
    }

    @Test(arguments: RiskCase.files + RiskCase.hidden)
    func `work in the files of a clone`(_ work: RiskCase) async throws {
        try await check(work, RunFixture(.clone))
    }

    /// The plan lists exactly this work, the default refuses and changes nothing, and an explicit discard removes the
    /// workdir and leaves a trace of what it dropped.
    private func check(_ work: RiskCase, _ run: RunFixture) async throws {
        try await run.sh(work.script)
        let plan = try await run.engine.planCleanup(run.key)
        // git lists a nested repository as an untracked directory beside our own finding.
        let found = Set(plan.risks.map { "\($0.kind.rawValue) \($0.path)" })
        #expect(found.isSuperset(of: work.risks), "\(found.sorted())")
        let paths = Set(work.risks.map { $0.split(separator: " ", maxSplits: 1)[1] })
        #expect(plan.risks.allSatisfy { paths.contains(Substring($0.path)) || $0.path.hasSuffix("/") }, "\(plan.risks)")
        if work.risks.isEmpty { #expect(plan.risks.isEmpty) }

        if !plan.risks.isEmpty {
            let before = try await run.witness()
            #expect(try await code { _ = try await run.engine.cleanup(plan) } == .workAtRisk)
            #expect(try await run.witness() == before)
            #expect(try await run.engine.planCleanup(run.key).token == plan.token)
            #expect(try await run.engine.audit().last?.action == "cleanup.refused")
        }
        let report = try await run.engine.cleanup(plan, discard: !plan.risks.isEmpty)
        #expect(report.run.state == .removed)
        // A stash stays in the repository, unless that is the clone itself.
        let lost = plan.risks.filter { $0.kind != .stash || report.run.materializer == .clone }
        #expect(report.discarded == lost)
        #expect(await run.engine.finishTrash() == 0)
        #expect(!FileManager.default.fileExists(atPath: run.path))
        let intent = try await run.engine.audit().last { $0.action == "cleanup.intent" }?.detail ?? ""
        for risk in lost { #expect(intent.contains("\(risk.kind.rawValue) \(risk.path): \(risk.detail)")) }
        #expect(try await run.repository.worktreeCount() == 1)
        try await git("fsck", "--strict", "--no-dangling", in: run.repository.path)
    }
}

extension RiskCase {
    static let files = [
        Self("nothing", ":"),
        Self("modified", "echo more >> README.md", "modified README.md"),
        Self("mode change only", "chmod +x README.md", "modified README.md"),
        Self("deleted", "rm README.md", "modified README.md"),
        Self("staged", "echo more >> README.md; git add README.md", "staged README.md"),
        Self("staged deletion", "git rm -q README.md", "staged README.md"),
        Self(
            "staged, then reverted in the workdir",
            "echo more >> README.md; git add README.md; git show HEAD:README.md > README.md",
            "staged README.md", "modified README.md"),
        Self("untracked file", "echo new > new.txt", "untracked new.txt"),
        Self("untracked directory", "mkdir -p a/b; echo new > a/b/c", "untracked a/b/c"),
        Self("empty directory", "mkdir -p a/b"),
        Self("intent to add", "echo new > new.txt; git add -N new.txt", "modified new.txt"),
        Self(
            "edited with size and time kept",
            "cp -p README.md $ROOT/kept; printf 'jello\\n' > README.md; touch -r $ROOT/kept README.md",
            "modified README.md"),
        Self("link replaced by a file", "rm link; printf README.md > link", "modified link"),
        Self("link to elsewhere", "ln -sfn bin/run link", "modified link"),
        Self("file replaced by a link", "rm README.md; ln -s empty README.md", "modified README.md"),
        Self(
            "file replaced by a directory", "rm README.md; mkdir README.md; echo x > README.md/x",
            "modified README.md", "untracked README.md/x"),
        Self("untracked link that leads nowhere", "ln -s nowhere dangling", "untracked dangling"),
        Self("ignored file", "echo x > a.log; mkdir build; echo x > build/x"),
        Self("tracked file that an ignore rule names", "echo README.md >> .gitignore", "modified .gitignore"),
    ]

    static let hidden = [
        Self(
            "assume-unchanged edit", "git update-index --assume-unchanged README.md; echo x >> README.md",
            "hidden README.md"),
        Self(
            "assume-unchanged mode", "git update-index --assume-unchanged README.md; chmod +x README.md",
            "hidden README.md"),
        Self(
            "assume-unchanged deletion", "git update-index --assume-unchanged README.md; rm README.md",
            "hidden README.md"),
        Self(
            "assume-unchanged without edit",
            "git update-index --assume-unchanged README.md link bin/run crlf.bat version.id"),
        Self("assume-unchanged link", "git update-index --assume-unchanged link; ln -sfn bin/run link", "hidden link"),
        Self(
            "skip-worktree edit", "git update-index --skip-worktree README.md; echo x >> README.md", "hidden README.md"),
        Self("skip-worktree and absent", "git update-index --skip-worktree README.md; rm README.md"),
    ]

    static let history = [
        Self(
            "detached commits", "git checkout -q --detach; echo x >> README.md; git commit -qam one",
            "detached-commits HEAD"),
        Self("detached without commits", "git checkout -q --detach"),
        Self(
            "detached commits that a tag reaches",
            "git checkout -q --detach; git commit -q --allow-empty -m one; git tag keep"),
        Self(
            "detached commits that were left",
            "git checkout -q --detach; echo x >> README.md; git commit -qam one; git checkout -q $BRANCH",
            "detached-commits logs/HEAD"),
        Self(
            "detached commits that were left by a rebase of the branch",
            "git commit -q --allow-empty -m x; git checkout -q --detach main; echo x >> README.md; git commit -qam one; "
                + "git rebase -q main $BRANCH", "detached-commits logs/HEAD"),
        Self(
            "detached commits that were left for an unborn branch",
            "git checkout -q --detach; echo x >> README.md; git commit -qam one; git checkout -q --orphan new; "
                + "git commit -qm two; git checkout -q $BRANCH", "detached-commits logs/HEAD"),
        Self(
            "commits that were looked at and then squashed",
            "git commit -q --allow-empty -m a; git commit -q --allow-empty -m b; git checkout -q HEAD~1; "
                + "git checkout -q -; git reset -q --soft HEAD~2; git commit -q --allow-empty -m ab"),
        Self(
            "detached commits that got a branch and were amended",
            "git checkout -q --detach; git commit -q --allow-empty -m a; git checkout -q -b feature; "
                + "git commit -q --amend --allow-empty -m b"),
        Self(
            "detached commits that were left and kept",
            "git checkout -q --detach; git commit -q --allow-empty -m one; git branch keep; git checkout -q $BRANCH"),
        Self(
            "a reflog that cannot be read",
            "log=$(git rev-parse --git-path logs/HEAD); rm $log; ln -s /etc/passwd $log", "untracked ."),
        Self(
            "a reflog of no use",
            "log=$(git rev-parse --git-path logs/HEAD); x=$(printf '%040d' 7); "
                + "printf '%s %s a <b> 0 +0000\\tcheckout: moving from %s to y\\n\\377 --all\\n' $x $x $x >> $log"),
        Self(
            "a reflog that names a commit without its parent",
            "log=$(git rev-parse --git-path logs/HEAD); b=$(git rev-parse HEAD); "
                + "c=$(git cat-file commit HEAD | sed '1aparent 0123456789012345678901234567890123456789' "
                + "| git hash-object -w -t commit --literally --stdin); "
                + "printf '%s %s a <b> 0 +0000\\tcommit: x\\n%s %s a <b> 0 +0000\\tcheckout: moving from %s to y\\n' "
                + "$b $c $c $b $c >> $log", "untracked ."),
        Self(
            "commits of a branch that was left and deleted",
            "git checkout -q -b other; git commit -q --allow-empty -m one; git checkout -q -; git branch -qD other"),
        Self(
            "commits that were amended, reset and rebased away",
            "echo a > a; git add a; git commit -qm one; git commit -q --amend -m two; git reset -q --hard HEAD~1; "
                + "echo b > b; git add b; git commit -qm three; git rebase -qf HEAD~1"),
        Self("commits on the branch", "git commit -q --allow-empty -m one"),
        Self("commits on another branch", "git checkout -q -b other; git commit -q --allow-empty -m one"),
        Self("branch renamed", "git branch -m other/name; git commit -q --allow-empty -m one"),
        Self("branch deleted", "git checkout -q --detach; git branch -qD $BRANCH"),
        Self(
            "branch deleted, its commits detached",
            "git commit -q --allow-empty -m one; git checkout -q --detach; git branch -qD $BRANCH",
            "detached-commits HEAD"),
        Self("unborn branch without files", "git checkout -q --orphan fresh; git rm -rfq ."),
        Self(
            "reference of the worktree", "git update-ref refs/worktree/a/b $(git commit-tree -m x HEAD^{tree})",
            "detached-commits refs/worktree/a/b"),
        Self("stash on the branch", "echo x >> README.md; git stash -q", "stash refs/stash"),
        Self("stash with a message", "echo x >> README.md; git stash push -q -m words", "stash refs/stash"),
        Self(
            "stash on a detached HEAD", "git checkout -q --detach; echo x >> README.md; git stash -q",
            "stash refs/stash"),
        Self(
            "stash on a detached HEAD that was left",
            "git checkout -q --detach; echo x >> README.md; git stash -q; git checkout -q $BRANCH", "stash refs/stash"),
        Self(
            "stash on a detached HEAD elsewhere, at the same commit",
            "cd $REPO; git checkout -q --detach; echo x >> README.md; git stash -q; git checkout -q main"),
        Self("stash elsewhere", "cd $REPO; echo x >> README.md; git stash -q"),
    ]

    private static let conflict =
        "git checkout -q -b other; echo a > README.md; git commit -qam a; git checkout -q -; "
        + "echo b > README.md; git commit -qam b;"

    static let operations = [
        Self("merge", conflict + "git merge -q other || true", "conflicted README.md", "operation merge"),
        Self(
            "cherry-pick", conflict + "git cherry-pick other || true", "conflicted README.md", "operation cherry-pick"),
        Self(
            "revert",
            "echo a > README.md; git commit -qam a; echo b > README.md; git commit -qam b; git revert HEAD~1 || true",
            "conflicted README.md", "operation revert"),
        Self(
            "rebase",
            "git commit -q --allow-empty -m a; GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/' "
                + "git rebase -q -i --keep-empty HEAD~1", "operation rebase"),
        Self("bisect", "git bisect start", "operation bisect"),
        Self(
            "am", conflict + "git format-patch -q -1 other; git am -q 0001* || true; rm 0001*",
            "operation rebase or am"),
    ]

    static let nested = [
        Self("empty", "git init -q nested", "nested-repository nested"),
        Self(
            "with commits", "git init -q nested; git -C nested commit -q --allow-empty -m x", "nested-repository nested"
        ),
        Self("cloned, not ignored", "git clone -q $REPO nested", "nested-repository nested"),
        Self("cloned and ignored", "git clone -q $REPO build/dep"),
        Self(
            "ignored, with a commit", "git clone -q $REPO build/dep; git -C build/dep commit -q --allow-empty -m x",
            "nested-repository build/dep"),
        Self(
            "ignored, with a commit that only a tag reaches",
            "git clone -q $REPO build/dep; cd build/dep; git checkout -q --detach; git commit -q --allow-empty -m x; "
                + "git tag t; git checkout -q main",
            "nested-repository build/dep"),
        Self(
            "ignored, with a stash", "git clone -q $REPO build/dep; cd build/dep; echo x >> README.md; git stash -q",
            "nested-repository build/dep"),
        Self(
            "ignored, modified", "git clone -q $REPO build/dep; echo x >> build/dep/README.md",
            "nested-repository build/dep"),
        Self(
            "ignored, with detached commits that were left",
            "git clone -q $REPO build/dep; cd build/dep; git checkout -q --detach; git commit -q --allow-empty -m x; "
                + "git checkout -q main", "nested-repository build/dep"),
        Self("ignored, empty", "git init -q build/dep", "nested-repository build/dep"),
        Self(
            "ignored and bare", "git init -q --bare build/b.git; git push -q build/b.git HEAD:refs/heads/x",
            "nested-repository build/b.git"),
        Self(
            "inside another one", "git clone -q $REPO build/dep; git init -q build/dep/build/in",
            "nested-repository build/dep/build/in"),
    ]
}
