// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let package = Package(
    name: "worktree-engine",
    products: [
        .library(name: "WorktreeEngine", targets: ["WorktreeEngine"]),
        .library(name: "LeadKit", targets: ["LeadKit"]),
        .executable(name: "wtengine", targets: ["wtengine"]),
        .library(name: "WorktreeMaintenance", targets: ["WorktreeMaintenance"]),
        .executable(name: "wtengine-lead", targets: ["wtengine-lead"]),
    ],
    dependencies: [
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.100.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.5.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0"),
        .package(url: "https://github.com/swhitty/FlyingFox", from: "0.27.0"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CLibGit2",
            path: "CLibGit2",
            pkgConfig: "libgit2",
            providers: [.apt(["libgit2-dev"]), .brew(["libgit2"])]
        ),
        .systemLibrary(
            name: "CLibDeflate",
            path: "CLibDeflate",
            pkgConfig: "libdeflate",
            providers: [.apt(["libdeflate-dev"]), .brew(["libdeflate"])]
        ),
        .systemLibrary(
            name: "CLibCrypto",
            path: "CLibCrypto",
            pkgConfig: "libcrypto",
            providers: [.apt(["libssl-dev"]), .brew(["openssl"])]
        ),
        .target(name: "CLinux"),
        .target(
            name: "Git",
            dependencies: ["CLibCrypto", "CLibDeflate", "CLibGit2"],
            swiftSettings: settings
        ),
        .target(
            name: "Registry",
            dependencies: [.product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: settings
        ),
        .target(
            name: "WorktreeEngine",
            dependencies: [
                "CLinux", "Git", "Registry",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "Settings",
            dependencies: ["WorktreeEngine", .product(name: "TOMLKit", package: "TOMLKit")],
            swiftSettings: settings
        ),
        .target(
            name: "LeadKit",
            dependencies: [
                "CLinux", "Registry", "Settings", "WorktreeEngine",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: settings
        ),
        // What the commands have in common: streams, exit codes, options.
        .target(
            name: "CommandKit",
            dependencies: [
                "Settings", "WorktreeEngine",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "wtengine",
            dependencies: [
                "CommandKit", "Settings", "WorktreeEngine",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        // A program of its own, so that `wtengine list` does not load the HTTP client.
        .executableTarget(
            name: "wtengine-lead",
            dependencies: [
                "CommandKit", "LeadKit", "Settings", "WorktreeEngine",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "TestSupport",
            dependencies: [
                "CLinux", "WorktreeEngine",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            path: "Tests/TestSupport",
            swiftSettings: settings
        ),
        // A forge and a git server on loopback.
        .target(
            name: "ForgeServers",
            dependencies: [
                .product(name: "FlyingFox", package: "FlyingFox"),
                .product(name: "FlyingSocks", package: "FlyingFox"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            path: "Tests/ForgeServers",
            swiftSettings: settings
        ),
        // Programs that tests run.
        .executableTarget(name: "killat", path: "Tests/KillAt"),
        .executableTarget(name: "leaderless", path: "Tests/Leaderless"),
        .executableTarget(
            name: "embedder", dependencies: ["WorktreeEngine"], path: "Tests/Embedder", swiftSettings: settings),
        .executableTarget(
            name: "minimal-lead",
            dependencies: ["LeadKit", "WorktreeEngine", .product(name: "Logging", package: "swift-log")],
            path: "Tests/MinimalLead",
            swiftSettings: settings
        ),
        .testTarget(name: "GitTests", dependencies: ["Git", "TestSupport"], swiftSettings: settings),
        .testTarget(
            name: "RegistryTests",
            dependencies: ["Registry", "TestSupport", .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: settings
        ),
        .testTarget(
            name: "WorktreeEngineTests",
            dependencies: [
                "WorktreeEngine", "TestSupport", "leaderless",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "LeadKitTests",
            dependencies: [
                "ForgeServers", "LeadKit", "Registry", "Settings", "TestSupport", "WorktreeEngine",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "LeadEndToEndTests",
            dependencies: [
                "ForgeServers", "LeadKit", "Registry", "TestSupport", "WorktreeEngine", "minimal-lead", "wtengine",
                "wtengine-lead",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "EndToEndTests",
            dependencies: [
                "WorktreeEngine", "wtengine", "killat", "embedder", "TestSupport",
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .target(
            name: "WorktreeMaintenance",
            dependencies: [
                "WorktreeEngine",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "WorktreeMaintenanceTests",
            dependencies: [
                "WorktreeMaintenance", "TestSupport",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings),
    ]
)
