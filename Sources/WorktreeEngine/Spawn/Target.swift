import Git
import Registry
import Synchronization

import struct Foundation.Date

/// What a spawn makes a workdir of, decided before anything is written.
struct Target: Sendable {
    let location: RepositoryLocation
    /// The base commit, in hexadecimal.
    let base: String
    /// As it was asked for; nil for HEAD.
    let revision: String?
    let support: Support
    /// The files, when libgit2 serves the repository.
    var native: Native?

    struct Native: Sendable {
        let tree: ObjectID
        /// The files, when the tree has been read to look at its attributes, and is remembered.
        let flat: FlatTree?
        /// The files for which attributes may ask for another content than the blobs'.
        let conversion: Conversion
        /// What decides the bytes and modes of a checkout beside the tree, hashed: settings, attribute files outside of
        /// the tree, and the umask. Equal in every process.
        let fingerprint: String
        /// `Name <mail> seconds zone` of the reflog line.
        let identityLine: String

        /// The files, read if they are not remembered. Blocks.
        func files(in commonDir: String) throws -> FlatTree {
            try flat ?? Repository(gitDirectory: commonDir).flatten(tree: tree)
        }

        /// Names all that decides the bytes and modes of a checkout.
        func key(in commonDir: String) -> String { Self.key(commonDir, tree, fingerprint) }

        static func key(_ commonDir: String, _ tree: ObjectID, _ fingerprint: String) -> String {
            "\(commonDir) \(tree) \(fingerprint)"
        }

        /// A checkout of the files. Reads the tree if it is not remembered, and blocks.
        func checkout(
            in commonDir: String, workers: Int, contents: ContentCache? = nil
        ) throws -> Checkout {
            Checkout(
                commonDir: commonDir, flat: try files(in: commonDir), conversion: conversion, workers: workers,
                cache: contents.map { Checkout.Cache(contents: $0, key: key(in: commonDir)) })
        }
    }
}

extension Engine {
    /// Decides base and support. Mutates nothing.
    func target(_ path: String, base revision: String?) async throws -> Target {
        let (location, reasons, native) = try await blocking { () -> (RepositoryLocation, [String], Target?) in
            let location = try RepositoryLocation.find(path)
            let reasons = try Support.repositoryReasons(location)
            return (location, reasons, try reasons.isEmpty ? self.nativeTarget(location, revision) : nil)
        }
        if let native { return native }
        let base = try await resolveByProcess(location, revision)
        return Target(
            location: location, base: base, revision: revision, support: Support(reasons: reasons), native: nil)
    }

    /// A target for libgit2, in a repository without ``Support/repositoryReasons(_:)``. Blocks.
    func nativeTarget(_ location: RepositoryLocation, _ revision: String?) throws -> Target {
        if location.gitDir == location.commonDir {
            return try actor(for: location.commonDir).handle.with { try self.nativeTarget(location, revision, $0) }
        }
        return try nativeTarget(location, revision, Repository(gitDirectory: location.gitDir))
    }

    private func nativeTarget(
        _ location: RepositoryLocation, _ revision: String?, _ repository: borrowing Repository
    ) throws -> Target {
        let base: ObjectID
        if let revision {
            do { base = try repository.commit(revision) } catch {
                throw EngineError.unknownBase(revision, location, error)
            }
        } else {
            guard let head = try repository.head().commit else { throw EngineError.unborn(location) }
            base = head
        }
        let configuration = try repository.configuration()
        var reasons = Support.configurationReasons(configuration)
        let tree = try repository.tree(ofCommit: base)
        let fingerprint = Self.fingerprint(configuration, commonDir: location.commonDir)
        // Not in a closure: the compiler crashes where one captures a borrowed handle.
        let key = Target.Native.key(location.commonDir, tree, fingerprint)
        var flat: FlatTree?
        let attributes: Support.Attributes
        if let known = trees.withLock({ $0[key] }) {
            (attributes, flat) = (known.attributes, known.flat)
        } else {
            let read = try repository.flatten(tree: tree)
            flat = read
            attributes = try Support.attributes(
                read, repository, configuration: configuration, commonDir: location.commonDir)
            trees.withLock { $0.remember(attributes, read, key) }
        }
        reasons += attributes.reasons
        var target = Target(
            location: location, base: "\(base)", revision: revision, support: Support(reasons: reasons), native: nil)
        guard reasons.isEmpty else { return target }
        func value(_ name: String) -> String? { configuration.last { $0.name == name }?.value }
        let line = AdminEntry.identityLine(
            name: value("user.name") ?? "wtengine", email: value("user.email") ?? "wtengine@localhost", at: Date())
        target.native = Target.Native(
            tree: tree, flat: flat, conversion: attributes.conversion, fingerprint: fingerprint, identityLine: line)
        return target
    }

    /// See ``Target/Native/fingerprint``. Each part is preceded by its length, so that no two lists look alike.
    private static func fingerprint(_ configuration: [ConfigEntry], commonDir: String) -> String {
        var parts = [Array(ProcessTable.umask.utf8)]
        for entry in configuration
        where entry.name.hasPrefix("filter.")
            || ["core.attributesfile", "core.autocrlf", "core.eol", "core.ignorecase"].contains(entry.name)
        {
            parts += [Array(entry.name.utf8), Array(entry.value.utf8)]
        }
        for file in Support.userAttributeFiles(configuration, commonDir: commonDir) {
            parts += [Array(file.name.utf8), file.content]
        }
        return "\(ObjectID.ofBlob(parts.flatMap { Array("\($0.count) ".utf8) + $0 }))"
    }

    private func resolveByProcess(_ location: RepositoryLocation, _ revision: String?) async throws -> String {
        let directory = location.workTree ?? location.gitDir
        let result = try await git.run(
            in: directory, ["rev-parse", "--verify", "--quiet", "--end-of-options", "\(revision ?? "HEAD")^{commit}"])
        if result.status == 0 { return result.text }
        // A repository that git cannot read at all says so here.
        try await git.require(in: directory, ["rev-parse", "--git-dir"])
        if let revision { throw EngineError.unknownBase(revision, location, nil) }
        throw EngineError.unborn(location)
    }

    /// The branch of a run: checked for form, and that it is free. nil for a detached HEAD.
    func branchName(_ request: SpawnRequest, _ key: RunKey, _ role: Role, _ target: Target) async throws -> String? {
        let name: String
        switch request.branch {
        case .detached: return nil
        case .named(let given): name = given
        case .template:
            name = configuration.branchTemplate.replacing("{issue}", with: key.issue.description)
                .replacing("{run}", with: key.run.description).replacing("{role}", with: role.description)
        }
        guard !name.hasPrefix("-"), name != "HEAD", name != "@", Repository.isValidReference("refs/heads/\(name)")
        else {
            throw EngineError(
                .invalidInput, .retry,
                "\(name.debugDescription)\(request.branch == .template ? ", made by the branch template," : "") is not a valid "
                    + "branch name (man git-check-ref-format). Give another with --branch, "
                    + "or take none with --detach.")
        }
        let location = target.location
        if target.native != nil {
            let handle = actor(for: location.commonDir).handle
            let taken = try await blocking { try handle.with { try $0.target(of: "refs/heads/\(name)") != nil } }
            if taken { throw EngineError.branchTaken(name, location.name) }
        } else {
            // Also a branch above or below the name: git's words for that do not tell it from other failures.
            let full = "refs/heads/\(name)"
            let top = "refs/heads/\(name.prefix { $0 != "/" })"
            let found = try await git.require(in: location.gitDir, ["for-each-ref", "--format=%(refname)", top])
            let isTaken = found.text.split(separator: "\n").contains { other in
                other == full || full.hasPrefix("\(other)/") || other.hasPrefix("\(full)/")
            }
            if isTaken { throw EngineError.branchTaken(name, location.name) }
        }
        return name
    }
}

extension EngineError {
    static func unknownBase(_ revision: String, _ location: RepositoryLocation, _ cause: (any Error)?) -> EngineError {
        EngineError(
            .unknownBase, .blocked,
            "\(revision.debugDescription) names no commit in \(location.name). Fetch it, or correct --base.",
            cause: cause)
    }

    static func unborn(_ location: RepositoryLocation) -> EngineError {
        EngineError(
            .unbornHead, .blocked,
            "HEAD of \(location.name) has no commit yet. Make a first commit, or name another revision with --base.")
    }
}
