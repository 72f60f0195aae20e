import ForgeServers
import Foundation
import TestSupport
import Testing

/// The git server that the scenarios of a forge project use serves what git's clients ask of one.
@Suite struct ForgeGitServerTests {
    private func server(_ scratch: Scratch) async throws -> (server: GitServer, url: String) {
        let repository = try await scratch.repository("source")
        try await git("clone", "--quiet", "--bare", repository.path, "served/org/repo.git", in: scratch.path)
        let server = try await GitServer(root: "\(scratch.path)/served")
        return (server, server.url(of: "org/repo.git"))
    }

    @Test func `a repository is cloned, and a branch pushed back`() async throws {
        let scratch = try Scratch()
        let (server, url) = try await server(scratch)
        try await git("clone", "--quiet", url, "clone", in: scratch.path)
        let clone = "\(scratch.path)/clone"
        // More than http.postBuffer, so that git sends it in chunks.
        try await shell(
            """
            git switch --quiet --create run/x
            head -c 3000000 /dev/urandom > large.bin
            git add large.bin
            git commit --quiet -m large
            git push --quiet origin run/x
            """, in: clone)
        let pushed = try await git("rev-parse", "run/x", in: "\(scratch.path)/served/org/repo.git")
        #expect(try await git("rev-parse", "HEAD", in: clone) == pushed)
        try await git("fsck", "--strict", in: "\(scratch.path)/served/org/repo.git")
        withExtendedLifetime(server) {}
    }

    @Test(arguments: ["0", "1", "2"])
    func `a fetch that names many commits comes through in every protocol`(_ version: String) async throws {
        let scratch = try Scratch()
        let (server, url) = try await server(scratch)
        try await git("clone", "--quiet", url, "one", in: scratch.path)
        try await git("clone", "--quiet", url, "two", in: scratch.path)
        // Enough that git compresses the request.
        try await shell(
            "for n in $(seq 40); do git commit --quiet --allow-empty -m $n; done", in: "\(scratch.path)/one")
        try await shell(
            "git commit --quiet --allow-empty -m other; git push --quiet origin HEAD:refs/heads/other",
            in: "\(scratch.path)/two")
        try await git("-c", "protocol.version=\(version)", "fetch", "--quiet", "origin", in: "\(scratch.path)/one")
        #expect(
            try await git("rev-parse", "origin/other", in: "\(scratch.path)/one")
                == git("rev-parse", "HEAD", in: "\(scratch.path)/two"))
        withExtendedLifetime(server) {}
    }

    @Test func `what is not there is not found`() async throws {
        let scratch = try Scratch()
        let (server, url) = try await server(scratch)
        try await git("ls-remote", url + "x", in: scratch.path, expecting: 128)
        withExtendedLifetime(server) {}
    }
}
