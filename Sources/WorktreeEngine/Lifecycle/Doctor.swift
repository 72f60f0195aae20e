import CLinux
import Foundation
import Git
import Glibc
import Registry
import SystemPackage

extension Engine {
    /// Looks for what is wrong and says which command mends it. Changes nothing.
    /// - Parameter repository: also say who can serve this repository, and why.
    /// - Throws: ``EngineError`` when the registry cannot be read, or `repository` is none.
    public func doctor(repository: String? = nil) async throws(EngineError) -> [Finding] {
        try await Self.catching("doctor") {
            var findings: [Finding] = []
            findings += await self.examineTools()
            for problem in try await self.registry.integrityProblems() {
                findings.append(
                    Finding(level: .error, message: "registry: \(problem)", remedy: "wtengine recover --rebuild"))
            }
            findings += await self.examineRoots()
            let visible = Set(await self.visibleRoots().map(\.path))
            var unseen: [String: Int] = [:]
            for run in try await self.registry.runs() {
                // What is not visible is not gone; the root's own finding says what to do.
                if !visible.contains(run.root), [.ready, .attached, .detached].contains(run.state) {
                    unseen[run.root, default: 0] += 1
                    continue
                }
                if let finding = try await self.examine(run) { findings.append(finding) }
            }
            findings += unseen.sorted { $0.key < $1.key }.map { root, count in
                Finding(level: .info, message: "root \(root): \(count) run(s) there were not looked at", remedy: nil)
            }
            findings += try await self.examineUnknownEntries()
            findings += try await self.examinePools()
            if let repository { findings += try await self.examine(repository: repository) }
            return findings
        }
    }

    private func examineTools() async -> [Finding] {
        var findings = [Finding(level: .info, message: "libgit2 \(Libgit2.version)", remedy: nil)]
        do {
            findings.append(
                Finding(level: .info, message: try await git.require(in: nil, ["--version"]).text, remedy: nil))
        } catch {
            findings.append(
                Finding(
                    level: .warning,
                    message: "git cannot be run, so repositories that libgit2 cannot serve are refused",
                    remedy: "install git 2.36 or later"))
        }
        return findings
    }

    private func examineRoots() async -> [Finding] {
        let isDefault = configuration.roots.isEmpty
        var findings: [Finding] = []
        for path in isDefault ? ["\(configuration.state)/workdirs"] : configuration.roots {
            do {
                if isDefault, realPath(path) == nil, try await registry.rootMarker(path) == nil {
                    let outer = RepositoryLocation.worktree(above: configuration.state)
                    findings.append(
                        outer.map {
                            Finding(
                                level: .error,
                                message: "root \(path), which does not exist yet, lies inside the worktree \($0)",
                                remedy: "name another root in config.toml")
                        } ?? Finding(level: .info, message: "root \(path) is made by the first spawn", remedy: nil))
                    continue
                }
                let root = try await Root.prepare(path, make: false, registry: registry)
                let free = try root.freeBytes()
                let low = free < configuration.diskReserve
                findings.append(
                    Finding(
                        level: low ? .error : .info,
                        message: "root \(root.path): \(Self.filesystem(root.path)), \(free >> 20) MiB free"
                            + (low ? ", less than the reserve of \(configuration.diskReserve >> 20) MiB" : ""),
                        remedy: low ? "free space, for example with `wtengine sweep`, or lower disk_reserve" : nil))
                if let outer = RepositoryLocation.worktree(above: root.path) {
                    findings.append(
                        Finding(
                            level: .error, message: "root \(root.path) lies inside the worktree \(outer)",
                            remedy: "name another root in config.toml"))
                }
                for record in try await unknownRecords(below: root) {
                    findings.append(
                        Finding(
                            level: .warning,
                            message: "\(record.path) (run \(record.issue) \(record.run)) is not in the registry",
                            remedy: "wtengine recover --rebuild"))
                }
                findings += try await leftDirectories(below: root)
                if let problem = Self.missingAbility(root) {
                    findings.append(
                        Finding(level: .error, message: problem, remedy: "use another filesystem for the root"))
                } else {
                    findings.append(try await blocking { try Self.snapshotAbility(root) })
                }
            } catch {
                let error = EngineError.wrap(error, "root \(path)")
                findings.append(Finding(level: .error, message: error.message, remedy: nil))
            }
        }
        return findings
    }

    /// What a root's filesystem cannot do and the engine needs; tried, not looked up.
    private static func missingAbility(_ root: Root) -> String? {
        guard let stage = try? root.openPrivate("stage") else { return "\(root.path): the stage cannot be opened" }
        let name = "probe-\(getpid())-\(randomHex(4))"
        guard (try? stage.makeDirectory(name)) != nil else { return "\(root.path): no directory can be made" }
        defer { _ = unlinkat(stage.descriptor, name, AT_REMOVEDIR) }
        if linux_rename_noreplace(stage.descriptor, name, stage.descriptor, name) == 0 || Glibc.errno != EEXIST {
            return "\(root.path): the filesystem has no rename without replacing (RENAME_NOREPLACE)"
        }
        return nil
    }

    /// See: man 2 statfs (f_type)
    static func filesystem(_ path: String) -> String {
        var value = statfs()
        guard statfs(path, &value) == 0 else { return "unknown filesystem" }
        return switch UInt32(truncatingIfNeeded: value.f_type) {
        case 0xEF53: "ext4"
        case 0x0102_1994: "tmpfs"
        case 0x9123_683E: "btrfs"
        case 0x5846_5342: "xfs"
        case 0x794C_7630: "overlayfs"
        case 0x6969: "nfs"
        case 0x2FC1_2FC1: "zfs"
        case let other: "filesystem 0x\(String(other, radix: 16))"
        }
    }

    private func examine(_ run: Run) async throws -> Finding? {
        switch run.state {
        case .creating, .cleaning:
            guard let lease = try Lease(ifFree: run.key, state: configuration.state) else {
                return Finding(level: .info, message: "run \(run.key) is \(run.state.rawValue) now", remedy: nil)
            }
            lease.release()
            return Finding(
                level: .error, message: "run \(run.key) was left \(run.state.rawValue) by a crash",
                remedy: "wtengine recover")
        case .quarantined:
            return Finding(
                level: .warning, message: "run \(run.key) needs a person: \(run.reason ?? "no reason recorded")",
                remedy: "look at \(run.path), then: wtengine cleanup \(run.key)")
        case .ready, .attached, .detached:
            if access(run.path, F_OK) != 0 {
                return Finding(
                    level: .warning, message: "\(run.path) of run \(run.key) is gone",
                    remedy: "put it back if it was moved; otherwise: wtengine prune")
            }
            if isOrphan(run) {
                return Finding(
                    level: .error, message: "the repository \(run.repo) of run \(run.key) is gone",
                    remedy:
                        "put it back if it was moved; otherwise look at \(run.path), then: wtengine cleanup \(run.key)")
            }
            if let problem = mismatch(run) {
                return Finding(level: .warning, message: problem, remedy: "wtengine verify \(run.key)")
            }
            if run.state == .attached, !run.superseded, let worker = run.worker, !ProcessTable.isAlive(worker) {
                return Finding(
                    level: .warning,
                    message: "the worker of run \(run.key) (pid \(worker.pid)) has gone without a report",
                    remedy: "wtengine detach \(run.key) --outcome fail")
            }
            return nil
        case .removed: return nil
        }
    }

    /// Why what stands at the path of a workdir is not taken for it.
    private func mismatch(_ run: Run) -> String? {
        guard let workdir = try? Directory(run.path) else { return "\(run.path) of run \(run.key) is no directory" }
        return AdminEntry.mismatch(run, workdir: workdir).map { "\($0), which is that of run \(run.key)" }
    }

    /// Whether git cannot work in a workdir any more. A clone has all that it needs.
    func isOrphan(_ run: Run) -> Bool { run.materializer != .clone && access(run.commonDir, F_OK) != 0 }

    /// Directories that were workdirs and that nothing leads to any more, so that git and every other command pass them by:
    /// they were elsewhere when their runs were removed.
    private func leftDirectories(below root: Root) async throws -> [Finding] {
        var runs: [String: Run] = [:]
        for run in try await registry.runs() { runs[run.path] = run }
        let known = runs
        return try await blocking {
            var findings: [Finding] = []
            let top = try root.open()
            for issue in try top.entries() where issue.type == UInt8(DT_DIR) && issue.name != Root.privateName {
                guard let directory = try? top.open(issue.name) else { continue }
                for entry in try directory.entries() where entry.type == UInt8(DT_DIR) {
                    let path = "\(root.path)/\(issue.name)/\(entry.name)"
                    let run = known[path]
                    if let run, run.state != .removed { continue }
                    guard let left = try? directory.open(entry.name) else { continue }
                    let names = try left.entries().map(\.name)
                    let leadsNowhere =
                        names.contains(".git") && RepositoryLocation.gitDirectory(atDotGit: "\(path)/.git") == nil
                    guard run != nil && !names.isEmpty || leadsNowhere else { continue }
                    let target = RepositoryLocation.gitFileTarget("\(path)/.git") ?? ""
                    let commonDir = target.components(separatedBy: "/worktrees/")[0]
                    if leadsNowhere, !target.isEmpty, access(commonDir, F_OK) != 0 {
                        findings.append(
                            Finding(
                                level: .warning,
                                message: "\(path) belongs to no run, and its repository \(commonDir) is not there",
                                remedy: "put the repository back if it was moved, then: wtengine recover --rebuild"))
                        continue
                    }
                    let why =
                        run.map { "run \($0.key) was removed while it was elsewhere" } ?? "its repository forgot it"
                    findings.append(
                        Finding(
                            level: .warning, message: "\(path) belongs to no run: \(why)",
                            remedy:
                                "look at it, move away what is of use, then delete it; its branch may be there still"))
                }
            }
            return findings
        }
    }

    private func unknownRecords(below root: Root) async throws -> [RunRecord] {
        let known = Set(try await registry.runs().map(\.adminID))
        return try await blocking { try Self.records(below: root).map(\.record) }.filter { !known.contains($0.adminID) }
    }

    /// Admin entries of ours whose workdirs are gone and that the registry does not know.
    private func examineUnknownEntries() async throws -> [Finding] {
        var findings: [Finding] = []
        let known = Set(try await registry.runs().map(\.adminID))
        for commonDir in Set(try await registry.runs().map(\.commonDir)).sorted() {
            guard let entries = try? Directory("\(commonDir)/worktrees").entries() else { continue }
            for entry in entries where !known.contains(entry.name) {
                guard let directory = try? Directory("\(commonDir)/worktrees/\(entry.name)"),
                    let record = RunRecord(in: directory), access(record.path, F_OK) != 0,
                    isInside(record.root, configuration.state)
                        || configuration.roots.contains(record.root)
                else { continue }
                findings.append(
                    Finding(
                        level: .warning,
                        message: "\(record.path) (run \(record.issue) \(record.run)) is not in the registry",
                        remedy: "wtengine recover --rebuild"))
            }
        }
        return findings
    }

    private func examine(repository path: String) async throws -> [Finding] {
        let target: Target
        do { target = try await self.target(path, base: nil) } catch {
            let error = EngineError.wrap(error, path)
            return [Finding(level: .error, message: error.message, remedy: nil)]
        }
        let name = target.location.name
        if !target.location.isWritable {
            return [Finding(level: .info, message: "\(name): cannot be written, so runs get a clone", remedy: nil)]
        }
        if target.support.isNative {
            return [Finding(level: .info, message: "\(name): served in process", remedy: nil)]
        }
        return target.support.reasons.map {
            Finding(level: .info, message: "\(name): served by a git process, since libgit2 cannot: \($0)", remedy: nil)
        }
    }
}
