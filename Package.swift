// swift-tools-version: 6.2
import PackageDescription

// Code that runs inside applications, or before there is a libc: Embedded Swift without the heap (ARCHITECTURE.md, "Two worlds").
let freestandingSwift: [SwiftSetting] = [
    .enableExperimentalFeature("Embedded"),
    .unsafeFlags(["-no-static-stdlib", "-wmo", "-no-allocations", "-enforce-exclusivity=unchecked", "-Xfrontend", "-disable-stack-protector",
                  "-Xfrontend", "-no-clang-module-breadcrumbs", "-dwarf-version=4",     // gdb 13 looks for neither modules nor split units
                  "-Xfrontend", "-function-sections", "-Xfrontend", "-trap-function", "-Xfrontend", "ckpt_trap"]),
]
let freestandingC: [CSetting] = [
    .unsafeFlags(["-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fvisibility=hidden", "-O2", "-g", "-gdwarf-4",
                  "-fasynchronous-unwind-tables"]),
]
let freestandingLink: [String] = ["-use-ld=lld", "-Xclang-linker", "-nostdlib", "-Xclang-linker", "-nostartfiles",
                                  "-Xlinker", "-z", "-Xlinker", "noexecstack", "-Xlinker", "--build-id",
                                  "-Xlinker", "-T", "-Xlinker", "\(Context.packageDirectory)/runtime/drop-debug-names.ld"]

// Debian's static libraries of the decoders.  What they mention and our calls never reach (a heap) ends in stand-ins of runtime/decompress.
let decoders: [String] = ["-l:libzstd.a", "-l:liblz4.a", "--wrap=malloc", "--wrap=calloc", "--wrap=free", "--wrap=__stack_chk_fail"].flatMap { ["-Xlinker", $0] }

let package = Package(
    name: "ckpt",
    products: [
        .library(name: "ckpt", type: .dynamic, targets: ["CkptPreload"]),
        .executable(name: "ckptctl", targets: ["ckptctl"]),
        .executable(name: "ckrun", targets: ["ckrun"]),
        .executable(name: "ckptengine", targets: ["ckptengine"]),
        .executable(name: "ckptexec", targets: ["ckptexec"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // Both worlds: structs, raw system calls, and the one of them that needs a stack of its own.
        .target(name: "CkptABI", path: "runtime/abi", sources: ["abi.c", "clone.c"]),

        // Freestanding.
        .target(name: "Freestanding", dependencies: ["CkptABI"], path: "runtime/freestanding", swiftSettings: freestandingSwift),
        .target(name: "CkptMemory", dependencies: ["CkptABI"], path: "runtime/memory", cSettings: freestandingC),
        .target(name: "PreloadBoot", dependencies: ["CkptABI"], path: "runtime/preload-boot", cSettings: freestandingC),
        .target(name: "CkptPreload", dependencies: ["CkptABI", "PreloadBoot", "Freestanding", "CkptMemory"], path: "runtime/preload", exclude: ["exports.map"],
                swiftSettings: freestandingSwift,
                linkerSettings: [.unsafeFlags(freestandingLink + [
                    "-Xlinker", "--strip-debug",    // a user's gdb must not go looking for our modules; names stay
                    "-Xlinker", "--version-script=\(Context.packageDirectory)/runtime/preload/exports.map", "-Xlinker", "-z", "-Xlinker", "now", "-Xlinker", "-Bsymbolic"])]),
        // The decoders come from Debian's static archives.
        .target(name: "CkptDecompress", dependencies: ["CkptABI"], path: "runtime/decompress", cSettings: freestandingC),
        .target(name: "EngineBoot", dependencies: ["CkptABI"], path: "runtime/engine-boot", cSettings: freestandingC),
        .executableTarget(name: "ckptengine", dependencies: ["CkptABI", "EngineBoot", "Freestanding", "CkptMemory", "CkptDecompress"], path: "runtime/engine",
                swiftSettings: freestandingSwift + [.unsafeFlags(["-parse-as-library"])],
                linkerSettings: [.unsafeFlags(freestandingLink + ["-Xclang-linker", "-static-pie", "-Xlinker", "-z", "-Xlinker", "text", "-Xlinker", "--no-export-dynamic", "-Xlinker", "--gc-sections"] + decoders)]),
        .executableTarget(name: "ckrun", dependencies: ["CkptABI", "EngineBoot", "Freestanding", "CkptMemory"], path: "tools/ckrun",
                swiftSettings: freestandingSwift + [.unsafeFlags(["-parse-as-library"])],
                linkerSettings: [.unsafeFlags(freestandingLink + ["-Xclang-linker", "-static-pie", "-Xlinker", "-z", "-Xlinker", "text", "-Xlinker", "--no-export-dynamic", "-Xlinker", "--gc-sections"])]),

        .executableTarget(name: "ckptexec", dependencies: ["CkptABI", "EngineBoot", "Freestanding", "CkptMemory"], path: "tools/ckptexec",
                swiftSettings: freestandingSwift + [.unsafeFlags(["-parse-as-library"])],
                linkerSettings: [.unsafeFlags(freestandingLink + ["-Xclang-linker", "-static-pie", "-Xlinker", "-z", "-Xlinker", "text", "-Xlinker", "--no-export-dynamic", "-Xlinker", "--gc-sections"])]),

        // Ordinary Swift.  Only CkptSystem calls libc.
        // The freestanding sources once more (a symbolic link): for unit tests, and what the initiator tries out before a restart has to do it.
        .target(name: "FreestandingHosted", dependencies: ["CkptABI"], path: "Sources/FreestandingHosted"),
        .systemLibrary(name: "CElf", path: "Sources/CElf", pkgConfig: "libelf", providers: [.apt(["libelf-dev"])]),
        .systemLibrary(name: "CUnwind", path: "Sources/CUnwind", pkgConfig: "libunwind-ptrace", providers: [.apt(["libunwind-dev"])]),
        .systemLibrary(name: "CZstd", path: "Sources/CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CLz4", path: "Sources/CLz4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .target(name: "CkptCompression", dependencies: ["CZstd", "CLz4", "CkptABI"], path: "Sources/Compression"),
        .target(name: "CkptSystem", dependencies: ["CkptABI", .product(name: "SystemPackage", package: "swift-system")], path: "Sources/System"),
        .target(name: "CkptReport", dependencies: ["CkptABI", "CkptSystem"], path: "Sources/Report"),
        .target(name: "CkptSession", dependencies: ["CkptABI", "CkptSystem"], path: "Sources/Session"),
        .target(name: "CkptStatefile", dependencies: ["CkptABI", "CElf", "CkptCompression", "CkptSystem", "CkptReport"], path: "Sources/Statefile"),
        .target(name: "CkptUnwind", dependencies: ["CUnwind", "CElf", "CkptABI", "CkptReport", "CkptSystem", "CkptStatefile"], path: "Sources/Unwind"),
        .target(name: "CkptInitiator", dependencies: ["CkptABI", "CkptSystem", "CkptReport", "CkptSession", "CkptStatefile", "CkptUnwind", "CkptCompression", "FreestandingHosted",
                .product(name: "Logging", package: "swift-log")], path: "Sources/Initiator"),
        .executableTarget(name: "ckptctl", dependencies: ["CkptInitiator", "CkptCompression", "CkptSession", "CkptStatefile", "CkptUnwind", "CkptReport", "CkptSystem",
                .product(name: "ArgumentParser", package: "swift-argument-parser"), .product(name: "Logging", package: "swift-log")], path: "tools/ckptctl",
                linkerSettings: [.unsafeFlags(["-Xlinker", "--allow-shlib-undefined"])]),

        .testTarget(name: "UnitTests", dependencies: ["CkptABI", "CkptInitiator", "FreestandingHosted", "CkptSession", "CkptStatefile", "CkptReport", "CkptSystem", "CkptUnwind", "CkptCompression"], path: "Tests/UnitTests"),
        .target(name: "HarnessC", path: "Tests/HarnessC"),
        .testTarget(name: "ScenarioTests", dependencies: ["CkptABI", "HarnessC"], path: "Tests/ScenarioTests"),
    ]
)
