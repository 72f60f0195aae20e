import Glibc
import SystemPackage

/// A system call that failed: which one, on what, and why.
struct SystemError: Error, CustomStringConvertible {
    let call: String
    let path: String
    let errno: Errno

    /// A rename was refused for what was to be moved: something is mounted there, or it is immutable (man 1 chattr).
    var isImmovable: Bool { errno == .resourceBusy || errno == .notPermitted }

    /// The user may not do this: a mode, an owner or an immutable flag forbids it.
    var isPermission: Bool { errno == .permissionDenied || errno == .notPermitted }

    var description: String { "\(call) \(path): \(errno)" }

    /// Takes `errno` as the call left it.
    static func last(_ call: String, _ path: String) -> SystemError {
        SystemError(call: call, path: path, errno: Errno(rawValue: Glibc.errno))
    }
}

/// Repeats a call that a signal interrupted, and turns -1 into an error. See: man 7 signal (EINTR)
@discardableResult
func system(_ call: String, _ path: @autoclosure () -> String, _ body: () -> CInt) throws(SystemError) -> CInt {
    while true {
        let result = body()
        if result >= 0 { return result }
        if Glibc.errno != EINTR { throw .last(call, path()) }
    }
}
