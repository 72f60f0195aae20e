import Foundation
import Glibc
import TestSupport
import Testing

/// Runs the command in a chroot. Its mount table omits mounts outside of the chroot and, unless it is a mount point, its own
/// root directory.
@Suite(.enabled(if: Mount.canTry, "needs root"))
struct ChrootTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        var rootIsMountPoint = false
        /// Runs before the process starts: `$J` is the root directory of the command, `$WD` the workdir from outside,
        /// `$M` an empty directory outside.
        var before = ":"
        /// Starts the process. `$S` is the same directory as `$J`, through the mount below it when `$J` is a mount point.
        let holder: String
        var holds = "cwd"
    }

    static let cases = [
        Case(
            testDescription: "a process in the chroot, by a mount of the workdir", before: "mount --bind $WD $J/m",
            holder: "exec chroot $J sh -c 'cd /m/sub; echo in; exec sleep 600'"),
        Case(
            testDescription: "a process in the chroot, by a mount of what holds the workdir",
            before: "mount --bind $J/data/state/workdirs $J/m",
            holder: "exec chroot $J sh -c 'cd /m/local+1/*/sub; echo in; exec sleep 600'"),
        Case(
            testDescription: "a process outside, by a mount of the workdir", before: "mount --bind $WD $M",
            holder: "cd $M/sub; echo in; exec sleep 600"),
        Case(
            testDescription: "a process outside with an open file", before: "mount --bind $WD $M",
            holder: "exec 9<$M/README.md; echo in; exec sleep 600", holds: "fd 9"),
        Case(
            testDescription: "a process outside, through the mount below the chroot's own", rootIsMountPoint: true,
            holder: "cd $S${WD#$J}/sub; echo in; exec sleep 600"),
        Case(
            testDescription: "a process in a chroot and a mount namespace of its own",
            holder: """
                exec unshare --mount --propagation unchanged sh -ec '
                mount --bind $WD $J/m; exec chroot $J sh -c "cd /m/sub; echo in; exec sleep 600"'
                """),
        Case(
            testDescription: "a process outside that has mapped a file",
            before: "mount --bind $WD $M; cp $LIBRARY $WD/x.log",
            holder: "echo in; LD_PRELOAD=$M/x.log exec sleep 600", holds: "mapping"),
    ]

    @Test(arguments: cases)
    func `a process that entered through a mount hidden from the command blocks the cleanup`(
        _ example: Case
    ) async throws {
        let jail = try await Jail(rootIsMountPoint: example.rootIsMountPoint)
        _ = try await TestRepository(path: "\(jail.path)/data/repo", files: TestFile.assorted)
        let run = ["local#1", "2026-02-14-backend-0001"]
        let printed = try await jail.wtengine(
            ["spawn", "--repo", "/data/repo", "--issue", run[0], "--run", run[1]])
        let workdir = jail.path + printed.trimmingCharacters(in: .newlines)
        let names =
            "set -eu; J='\(jail.path)' S='\(jail.source)' M='\(jail.outside)' WD='\(workdir)' LIBRARY='\(try jail.library)'; "
            + "export J WD; "
        try await shell(names + example.before, in: "/")
        let isMapping = example.holds == "mapping"
        let token = try await jail.plan(run, expecting: 0).token

        let child = try Child(names + example.holder)
        defer { child.end() }
        // Only the removal itself looks at mappings.
        let plan = try await jail.plan(run, expecting: isMapping ? 0 : 3)
        #expect(plan.holds == (isMapping ? [] : [example.holds]))
        try await jail.wtengine(["cleanup"] + run + ["--confirm", token], expecting: 3)
        #expect(FileManager.default.fileExists(atPath: "\(workdir)/README.md"))

        child.end()
        let last = try await jail.plan(run, expecting: 0).token
        try await jail.wtengine(["cleanup"] + run + ["--confirm", last])
        #expect(!FileManager.default.fileExists(atPath: workdir))
    }
}

/// A root directory for the command with the programs of this machine and a filesystem for repository and state.
private struct Jail {
    /// The root directory.
    let path: String
    /// The same directory, through the mount below it when ``path`` is a mount point.
    let source: String
    /// A directory beside it.
    let outside: String
    private let mount: Mount

    init(rootIsMountPoint: Bool) async throws {
        // What is mounted in here stays in its mount namespace, and goes with it.
        mount = try await Mount(tmpfs: "256M")
        path = "\(mount.path)/jail"
        source = rootIsMountPoint ? "\(mount.path)/source" : path
        outside = "\(mount.path)/outside"
        let bin = URL(fileURLWithPath: Tool.path).deletingLastPathComponent().path
        try await shell(
            """
            mkdir -p "$J" "$S" "$OUTSIDE"
            if test "$J" != "$S"; then mount --bind "$S" "$J"; mount --make-private "$J"; fi
            mkdir -p "$J/data/state" "$J/m" "$J/tmp"
            printf '[limits]\\ndisk_reserve = 0\\n' >"$J/data/state/config.toml"
            share() { mkdir -p "$J$1"; mount --rbind "$1" "$J$1"; mount --make-rprivate "$J$1"; }
            for entry in /*; do
                if test -L "$entry"; then cp -P "$entry" "$J/"; continue; fi
                case $entry in
                    /bin | /dev | /etc | /lib* | /opt | /proc | /sbin | /usr) share "$entry" ;;
                esac
            done
            share "$BIN"
            # Where the Swift libraries are, when not in one of these.
            ldd "$BIN/wtengine" | sed -n 's,^.*libswiftCore.so => \\(/.*\\)/[^/]*$,\\1,p' | while IFS= read -r directory; do
                test -d "$J$directory" || share "$directory"
            done
            """, in: mount.path, ["J": path, "S": source, "OUTSIDE": outside, "BIN": bin])
    }

    /// A shared library that any program can load.
    var library: String {
        get throws {
            let found = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"]
            guard let path = found.first(where: { FileManager.default.fileExists(atPath: $0) }) else {
                try skip("no libm.so.6 where it usually is")
            }
            return path
        }
    }

    @discardableResult
    func wtengine(_ arguments: [String], expecting status: Int32 = 0) async throws -> String {
        try await run(
            ["chroot", path, Tool.path] + arguments, in: "/", expecting: status,
            environment: ["WTENGINE_STATE": "/data/state", "HOME": "/data"])
    }

    func plan(_ run: [String], expecting status: Int32) async throws -> (token: String, holds: [String]) {
        let answer = try await wtengine(["cleanup"] + run + ["--json"], expecting: status)
        let plan = try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any] ?? [:]
        let processes = plan["processes"] as? [[String: Any]] ?? []
        return (plan["token"] as? String ?? "", processes.compactMap { $0["holds"] as? String })
    }
}
