import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// Repositories that an agent has made: git may look into them, but what they ask it to run or to open is theirs.
@Suite struct ForeignRepositoryTests {
    /// Each makes `$ROOT/ran` when git does what the repository says. `core.sparseCheckout` is what libgit2 cannot serve.
    @Test(arguments: [
        (
            "a filter",
            "git config filter.x.clean \"$RUN; cat\"; echo '* filter=x' >.gitattributes; touch -d 2020-01-01 f"
        ),
        (
            "a filter of an odd name",
            "git config filter.a=b.clean \"$RUN; cat\"; echo '* filter=a=b' >.gitattributes; touch -d 2020-01-01 f"
        ),
        (
            "a filter process",
            "git config filter.x.process \"$RUN\"; echo '* filter=x' >.gitattributes; touch -d 2020-01-01 f"
        ),
        ("a file system monitor", "git config core.fsmonitor \"$RUN;:\""),
        ("a hook", "printf '#!/bin/sh\\n%s' \"$RUN\" >.git/hooks/post-index-change; chmod +x .git/hooks/*; touch f"),
        (
            "a check of signatures",
            """
            printf '#!/bin/sh\\n%s' "$RUN" >.git/gpg; chmod +x .git/gpg
            git config gpg.program $PWD/.git/gpg; git config log.showSignature true
            printf 'tree %s\\nauthor x <x> 1 +0000\\ncommitter x <x> 1 +0000\\ngpgsig -----BEGIN PGP SIGNATURE-----\\n \\n x\\n -----END PGP SIGNATURE-----\\n\\nx\\n' \
                $(git write-tree) | git hash-object -t commit -w --stdin >.git/refs/heads/main
            """
        ),
        (
            "a transport for what is missing",
            """
            git config remote.x.url "ext::sh -c $ROOT/run"; git config remote.x.promisor true
            git config core.repositoryFormatVersion 1; git config protocol.ext.allow always
            find .git/objects -type f -delete
            """
        ),
    ])
    func `what a nested repository asks git to run is not run`(_ name: String, _ script: String) async throws {
        let run = try await RunFixture()
        try await shell(
            """
            printf '#!/bin/sh\\ntouch %s/ran\\n' $ROOT >$ROOT/run; chmod +x $ROOT/run
            git init -q -b main build/u; cd build/u; echo x >f; git add f; git commit -qm f
            git config core.sparseCheckout true
            """ + "\n" + script, in: run.path, ["ROOT": run.scratch.path, "RUN": "\(run.scratch.path)/run"])
        let witness = "\(run.scratch.path)/ran"
        try? FileManager.default.removeItem(atPath: witness)
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.path) == ["build/u"])
        #expect(!FileManager.default.fileExists(atPath: witness))
        // It would have been run: git alone does so.
        _ = try await TestSupport.run(
            ["sh", "-c", "git status; git log -1 --format=%H"], in: "\(run.path)/build/u", expecting: nil)
        #expect(FileManager.default.fileExists(atPath: witness))
    }

    @Test func `what a clone's own configuration asks git to run is not run`() async throws {
        let run = try await RunFixture(.clone)
        try await shell(
            "mkdir -p .git/info; git config core.sparseCheckout true; git config filter.x.clean \"touch $ROOT/ran; cat\"; "
                + "echo 'README.md filter=x' >.git/info/attributes; touch README.md",
            in: run.path, ["ROOT": run.scratch.path])
        #expect(try await run.engine.planCleanup(run.key).risks.isEmpty)
        #expect(!FileManager.default.fileExists(atPath: "\(run.scratch.path)/ran"))
        try await run.sh("echo more >>README.md; git config filter.a=b.clean cat")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.map(\.path) == ["."])
        #expect(plan.risks.first?.detail.contains("a=b") == true)
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .workAtRisk)
        #expect(try await run.engine.cleanup(plan, discard: true).run.state == .removed)
    }

    @Test func `a nested repository that git cannot read is work, and can be discarded`() async throws {
        let run = try await RunFixture()
        try await run.sh("git init -q u; echo '[' >u/.git/config; git init -q v; echo x >v/.git/index; echo x >v/f")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(Set(plan.risks.filter { $0.kind == .nestedRepository }.map(\.path)) == ["u", "v"])
        #expect(try await run.engine.cleanup(plan, discard: true).run.state == .removed)
    }

    // MARK: What would keep git waiting

    /// Each with the path at risk. Where a tracked file was touched, everything is inspected in full.
    @Test(
        .timeLimit(.minutes(30)),
        arguments: [
            ("attributes", "mkfifo .gitattributes; touch a README.md", "."),
            ("ignore rules", "mkfifo sub/.gitignore; touch a README.md", "."),
            ("ignore rules beside tracked files as they were", "mkfifo new/.gitignore; touch new/a", "new/.gitignore"),
            ("a link to a FIFO", "mkfifo $ROOT/fifo; ln -s $ROOT/fifo sub/deep/.gitattributes; touch README.md", "."),
            ("the index", "rm -f $ENTRY/index; mkfifo $ENTRY/index", "."),
            ("HEAD", "rm $ENTRY/HEAD; mkfifo $ENTRY/HEAD", "."),
            ("a reference of the worktree", "mkdir -p $ENTRY/refs/worktree; mkfifo $ENTRY/refs/worktree/x", "."),
            ("a nested configuration", "rm u/.git/config; mkfifo u/.git/config", "u"),
            ("a nested HEAD", "rm u/.git/HEAD; mkfifo u/.git/HEAD", "u"),
            ("a nested HEAD, and another edit", "rm u/.git/HEAD; mkfifo u/.git/HEAD; echo x >>README.md", "."),
            ("a nested reference", "mkfifo u/.git/refs/heads/x", "u"),
            ("a nested object", "mkfifo u/.git/objects/fifo", "u"),
            ("an included configuration", "mkfifo $ROOT/fifo; git -C u config include.path $ROOT/fifo", "u"),
            ("a nested file of ignore rules", "mkfifo $ROOT/fifo; git -C u config core.excludesFile $ROOT/fifo", "u"),
        ], [Materializer.checkout, .git])
    func `a FIFO in the place of what git reads is work at risk and keeps nobody waiting`(
        _ place: (name: String, script: String, risk: String), _ materializer: Materializer
    ) async throws {
        let run = try await RunFixture(materializer, prepare: "git rm -q .gitattributes; git commit -qm none")
        try await shell(
            "git init -q u; mkdir new\n" + place.script, in: run.path,
            [
                "ROOT": run.scratch.path,
                "ENTRY": AdminEntry.path(try await run.engine.run(run.key)),
            ])
        let plan = try await run.engine.planCleanup(run.key)
        let found = plan.risks.map(\.path)
        // git's own walk is always a full inspection.
        #expect(found.contains(place.risk) || materializer == .git && found == ["."], "\(plan.risks)")
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .workAtRisk)
        #expect(try await run.engine.cleanup(plan, discard: true).run.state == .removed)
        #expect(await run.engine.finishTrash() == 0)
        #expect(!FileManager.default.fileExists(atPath: run.path))
    }
}
