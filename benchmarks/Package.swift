// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

// A package of its own, so that whoever depends on the engine does not fetch what only a benchmark needs.
let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(name: "worktree-engine", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CGit2",
            pkgConfig: "libgit2",
            providers: [.apt(["libgit2-dev"]), .brew(["libgit2"])]
        ),
        .target(name: "CBaseline", dependencies: ["CGit2"]),
        .executableTarget(name: "peakmemory"),
        .executableTarget(
            name: "wtbench",
            dependencies: [
                "CBaseline",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "LeadKit", package: "worktree-engine"),
                .product(name: "WorktreeEngine", package: "worktree-engine"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: settings
        ),
    ]
)
