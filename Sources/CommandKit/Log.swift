import Foundation
import Logging

/// The log on stderr.
package enum Log {
    /// Sends every logger of the process to stderr, from `$WTENGINE_LOG` (default `warning`) up.
    /// - Throws: ``Failure`` when the variable names no level.
    package static func start() throws {
        let name = ProcessInfo.processInfo.environment["WTENGINE_LOG"] ?? ""
        guard let level = name.isEmpty ? .warning : Logger.Level(rawValue: name) else {
            let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure.usage("$WTENGINE_LOG is \(name.debugDescription): expected one of \(levels).")
        }
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
    }
}
