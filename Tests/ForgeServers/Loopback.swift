import FlyingFox
import FlyingSocks
import Foundation

/// An HTTP server on a free port of 127.0.0.1, for as long as this lives.
final class Loopback: Sendable {
    let port: UInt16
    private let running: Task<Void, any Error>

    init(_ answer: @escaping @Sendable (HTTPRequest) async throws -> HTTPResponse) async throws {
        let server = HTTPServer(
            address: try .inet(ip4: "127.0.0.1", port: 0), timeout: 3600, logger: Silence(),
            handler: ClosureHTTPHandler(answer))
        let running = Task { try await server.run() }
        do {
            try await server.waitUntilListening(timeout: 60)
            guard case .ip4(_, let port) = await server.listeningAddress else { throw CocoaError(.featureUnsupported) }
            self.port = port
        } catch {
            running.cancel()
            throw error
        }
        self.running = running
    }

    deinit { running.cancel() }
}

private struct Silence: Logging {
    func logDebug(_ debug: @autoclosure () -> String) {}
    func logInfo(_ info: @autoclosure () -> String) {}
    func logWarning(_ warning: @autoclosure () -> String) {}
    func logError(_ error: @autoclosure () -> String) {}
    func logCritical(_ critical: @autoclosure () -> String) {}
}
