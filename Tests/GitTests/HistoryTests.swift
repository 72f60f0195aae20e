import Foundation
import Git
import TestSupport
import Testing

@Suite struct HistoryTests {
    /// Commits with random parents, and references on some of them; the same for the same seed. Dates go backwards here
    /// and there when the seed is odd.
    private func makeHistory(_ seed: UInt64, in repository: TestRepository) async throws {
        var state = seed
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        var stream = ""
        for commit in 1...40 {
            let parents =
                commit == 1 ? [] : Set((0..<(next(4) == 0 ? 2 : 1)).map { _ in 1 + next(commit - 1) }).sorted()
            stream +=
                "commit refs/heads/tmp\nmark :\(commit)\ncommitter T <t@e> \(1000 + (seed % 2 == 0 ? commit : next(50))) +0000\ndata 2\nc\(commit % 10)\n"
            for (index, parent) in parents.enumerated() { stream += "\(index == 0 ? "from" : "merge") :\(parent)\n" }
            if parents.isEmpty { stream += "deleteall\n" }
            if next(5) == 0 { stream += "reset refs/heads/b\(commit)\nfrom :\(commit)\n\n" }
            if next(8) == 0 { stream += "reset refs/remotes/origin/r\(commit)\nfrom :\(commit)\n\n" }
            if next(9) == 0 { stream += "tag t\(commit)\nfrom :\(commit)\ntagger T <t@e> 1 +0000\ndata 1\nx\n" }
        }
        try write(TestFile("import", stream), in: repository.path)
        try await sh(
            "git fast-import --quiet --force --export-marks=marks <import; git update-ref -d refs/heads/tmp; rm import",
            in: repository.path)
    }

    @Test(arguments: UInt64(1)...6)
    func `own commits are those that git names`(seed: UInt64) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        try await makeHistory(seed, in: repository)
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        let commits = try String(contentsOfFile: "\(repository.path)/marks", encoding: .utf8).split(separator: "\n")
            .compactMap { $0.split(separator: " ").last.flatMap { ObjectID(String($0)) } }
        // By sets of ancestors: git's own walk, too, is misled by dates that go backwards.
        var parents: [String: [String]] = [:]
        for line in try await sh("cut -d' ' -f2 marks | git rev-list --stdin --parents", in: repository.path).split(
            separator: "\n")
        {
            let names = line.split(separator: " ").map(String.init)
            parents[names[0]] = Array(names.dropFirst())
        }
        func ancestors(_ tips: [String]) -> Set<String> {
            var (seen, pending): (Set<String>, [String]) = ([], tips)
            while let next = pending.popLast() {
                if seen.insert(next).inserted { pending += parents[next] ?? [] }
            }
            return seen
        }
        let peeled = try await sh(
            "git for-each-ref --format='%(refname) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)'",
            in: repository.path
        ).split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        let branches = peeled.map(\.[0]).filter { $0.hasPrefix("refs/heads/b") }
        for (index, tip) in commits.enumerated() {
            let excluded = branches.isEmpty ? [] : [branches[index % branches.count]]
            for prefix in [nil, "refs/remotes/"] as [String?] {
                let own = try handle.ownCommits(of: tip, excluding: Set(excluded), onlyPrefix: prefix)
                let kept = peeled.filter { $0[0].hasPrefix(prefix ?? "refs/") && !excluded.contains($0[0]) }.map(\.[1])
                let lost = ancestors([tip.description]).subtracting(ancestors(kept))
                let found = Set(own.map(\.description))
                // Where dates go backwards some commits may be named that are kept, never the other way round.
                if seed % 2 == 0 { #expect(found == lost) } else { #expect(found.isSuperset(of: lost)) }
            }
        }
    }

    @Test func `the list of own commits ends at its limit`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        for number in 0..<5 { try await repository.commit([], message: "c\(number)") }
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        let tip = try handle.commit("HEAD")
        #expect(try handle.ownCommits(of: tip, excluding: ["refs/heads/main"]).count == 6)
        #expect(try handle.ownCommits(of: tip, excluding: ["refs/heads/main"], limit: 2).count == 2)
        #expect(handle.summary(ofCommit: tip) == "c4")
    }

    @Test func `what HEAD names keeps no commit when it is another name of the branch that goes`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let own = try await repository.commit([], message: "own")
        let tip = try #require(ObjectID(own))
        try await sh(
            "git branch own; git update-ref refs/heads/main HEAD^; git symbolic-ref HEAD refs/heads/alias",
            in: repository.path)
        try await sh("git symbolic-ref refs/heads/alias refs/heads/own", in: repository.path)
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        #expect(try handle.ownCommits(of: tip, excluding: ["refs/heads/own"]) == [tip])
        try await sh("git symbolic-ref HEAD refs/heads/own", in: repository.path)
        #expect(try handle.ownCommits(of: tip, excluding: ["refs/heads/own"]) == [tip])
        #expect(try handle.ownCommits(of: tip) == [])
        try await sh("git symbolic-ref HEAD refs/heads/unborn", in: repository.path)
        #expect(try handle.ownCommits(of: tip, excluding: ["refs/heads/own"]) == [tip])
    }

    @Test(arguments: [
        ": >.git/refs/heads/main", "git symbolic-ref refs/heads/main refs/heads/main",
        "echo 'ref: refs/heads/.x' >.git/HEAD",
    ])
    func `a HEAD that cannot be read does not keep from telling what others reach`(_ damage: String) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let tip = try #require(ObjectID(try await repository.head()))
        try await sh("git branch other; \(damage)", in: repository.path)
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        #expect(try handle.ownCommits(of: tip).isEmpty)
    }

    @Test func `references to blobs and trees hide no commit and break nothing`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        try await sh(
            "git tag blob HEAD:f; git tag tree 'HEAD^{tree}'; git tag -a -m x onblob HEAD:f; git tag -a -m y onc HEAD; git tag -a -m z onon onc",
            in: repository.path)
        let base = try await repository.head()
        let own = try await repository.commit([], message: "own")
        let handle = try Repository(gitDirectory: "\(repository.path)/.git")
        let found = try handle.ownCommits(of: try #require(ObjectID(own)), excluding: ["refs/heads/main"])
        #expect(found.map(\.description) == [own])
        #expect(try handle.ownCommits(of: try #require(ObjectID(base)), excluding: ["refs/heads/main"]).isEmpty)
    }

    @Test func `stashes are listed with the commit that they were made on`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("f")])
        let base = try await repository.head()
        #expect(try Repository(gitDirectory: "\(repository.path)/.git").stashes().isEmpty)
        for text in ["one", "two"] {
            try write(TestFile("f", text), in: repository.path)
            try await git("stash", "push", "--quiet", "-m", text, in: repository.path)
        }
        let stashes = try Repository(gitDirectory: "\(repository.path)/.git").stashes()
        #expect(stashes.map(\.message) == ["On main: two", "On main: one"])
        #expect(stashes.map(\.parent?.description) == [base, base])
    }
}
