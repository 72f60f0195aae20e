import AsyncHTTPClient
import Foundation
import Glibc
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// How patient a ``ForgeClient`` is.
struct ForgePatience: Sendable {
    /// For a connection, with TLS.
    var connect = Duration.seconds(10)
    /// For one request from its beginning to the last byte of the answer.
    var request = Duration.seconds(30)
    /// How often a request is sent at most.
    var attempts = 4
    /// Before the second attempt; it doubles with each one after.
    var firstPause = Duration.milliseconds(500)
    /// No request waits longer than this: whoever has to wait longer is told so, and may do something else meanwhile.
    var longestPause = Duration.seconds(60)
    /// In bytes.
    var largestAnswer = 32 << 20
    /// Pages of one list.
    var mostPages = 500

    /// How long to wait after an attempt, counted from 1: half of it is chance, so that clients that failed together do
    /// not come back together.
    func pause(after attempt: Int) -> Duration {
        let full = firstPause * (1 << min(attempt - 1, 16))
        return min(full, longestPause) * Double.random(in: 0.5...1)
    }
}

/// Speaks to the REST API of one forge: with the token, with time limits, and again when it is worth it.
///
/// - A request is sent again after a broken connection, a status 5xx and a limit, when it does no harm to send it twice
///   or it was not done for certain. Pauses grow; one that the forge asks for is kept.
/// - A limit that lasts longer than ``ForgePatience/longestPause`` is an error that says how long. Until then nothing is
///   sent at all: docs.github.com, "Rate limits for the REST API", warns of being banned otherwise.
/// - No redirect is followed, and no page of a list that another server has: the token would go there.
final class ForgeClient: Sendable {
    let address: ForgeAddress
    let patience: ForgePatience
    private let http: HTTPClient
    private let token: Token
    private let headers: @Sendable (Token) -> HTTPHeaders
    private let logger: Logger
    private let sleep: @Sendable (Duration) async throws -> Void
    private let limitedUntil = Mutex<ContinuousClock.Instant?>(nil)

    /// - Parameters:
    ///   - headers: what the forge wants with every request, made of the token.
    ///   - sleep: how to wait; a test does not.
    init(
        address: ForgeAddress, token: Token, patience: ForgePatience = ForgePatience(), logger: Logger,
        sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
        headers: @escaping @Sendable (Token) -> HTTPHeaders
    ) {
        self.address = address
        self.token = token
        self.patience = patience
        self.logger = logger
        self.sleep = sleep
        self.headers = headers
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .disallow
        configuration.timeout.connect = TimeAmount(patience.connect)
        // It would try until the time for a connection is over; here every failure is counted and logged.
        configuration.connectionPool.retryConnectionEstablishment = false
        http = HTTPClient(configuration: configuration)
    }

    deinit {
        // After `close` it says that it is done already, which is no news.
        http.shutdown { _ in }
    }

    /// Ends connections, and with them whatever is under way.
    func close() async {
        do {
            try await http.shutdown()
        } catch {
            logger.debug("the HTTP client was closed twice", metadata: ["error": "\(error)"])
        }
    }

    /// Sends a request until it succeeds or there is no use in it.
    /// - Throws: ``ForgeFailure``.
    func send(_ request: ForgeRequest) async throws(ForgeFailure) -> ForgeResponse {
        if let until = limitedUntil.withLock({ $0 }), case let rest = ContinuousClock.now.duration(to: until),
            rest > .zero
        {
            throw ForgeFailure(
                .unreachable,
                "\(request.name): the forge asked not to be called for another \(inWords(rest)). "
                    + "It will be tried again after that.", retryAfter: rest)
        }
        var attempt = 1
        while true {
            let setback: Setback
            switch await attempted(request) {
            case .answer(let response): return response
            case .failure(let failure): throw failure
            case .setback(let found): setback = found
            }
            let pause = setback.wait ?? patience.pause(after: attempt)
            let mayRepeat = request.isRepeatable || !setback.mayHaveBeenDone
            guard mayRepeat, attempt < patience.attempts, pause <= patience.longestPause else {
                if let wait = setback.wait { limitedUntil.withLock { $0 = ContinuousClock.now + wait } }
                var failure = ForgeFailure(
                    .unreachable,
                    "\(request.name): \(setback.reason), after \(attempt) of \(patience.attempts) attempts. It may be "
                        + "tried again\(setback.wait.map { " after \(inWords($0))" } ?? " later").",
                    retryAfter: setback.wait, status: setback.status)
                failure.mayHaveBeenDone = setback.mayHaveBeenDone
                throw failure
            }
            logger.notice(
                "the forge is asked again",
                metadata: [
                    "request": "\(request.name)", "reason": "\(setback.reason)", "attempt": "\(attempt)",
                    "pause": "\(pause)",
                ])
            try await self.pause(pause)
            attempt += 1
        }
    }

    /// Waits.
    /// - Throws: ``ForgeFailure`` when the task is cancelled meanwhile.
    func pause(_ duration: Duration) async throws(ForgeFailure) {
        do {
            try await sleep(duration)
        } catch {
            throw ForgeFailure(.unreachable, "the call of the forge was cancelled. It may be made again.")
        }
    }

    // MARK: One attempt

    private enum Attempt {
        case answer(ForgeResponse)
        case failure(ForgeFailure)
        case setback(Setback)
    }

    /// Why an attempt did not succeed though another one may.
    private struct Setback {
        let reason: String
        /// What the forge asks for.
        var wait: Duration?
        var status: Int?
        let mayHaveBeenDone: Bool
    }

    private func attempted(_ request: ForgeRequest) async -> Attempt {
        var message = HTTPClientRequest(url: request.url)
        message.method = request.method
        message.headers = headers(token)
        if let body = request.body {
            message.headers.add(name: "Content-Type", value: "application/json")
            message.body = .bytes(ByteBuffer(bytes: body))
        }
        do {
            let response = try await exchange(message)
            logger.debug(
                "the forge answered", metadata: ["request": "\(request.name)", "status": "\(response.status)"])
            return judged(response, of: request)
        } catch is CancellationError {
            return .failure(cancelled(request))
        } catch let error as HTTPClientError where error == .cancelled {
            return .failure(cancelled(request))
        } catch let error as NIOTooManyBytesError {
            return .failure(
                ForgeFailure(
                    .damaged,
                    "\(request.name): the answer has more than \(error.maxBytes ?? patience.largestAnswer) bytes, "
                        + "which no issue should have. Look at the issue for texts that somebody made too long."))
        } catch {
            return .setback(broken(error))
        }
    }

    private func exchange(_ message: HTTPClientRequest) async throws -> ForgeResponse {
        // The client's own limit ends with the headers of the answer; this one includes the body.
        try await withThrowingTaskGroup(of: ForgeResponse.self) { [http, patience] group in
            group.addTask {
                let answer = try await http.execute(message, timeout: TimeAmount(patience.request))
                let body = try await answer.body.collect(upTo: patience.largestAnswer)
                return ForgeResponse(
                    status: Int(answer.status.code), headers: answer.headers, body: Data(body.readableBytesView))
            }
            group.addTask {
                try await Task.sleep(for: patience.request)
                throw HTTPClientError.deadlineExceeded
            }
            defer { group.cancelAll() }
            guard let response = try await group.next() else { throw CancellationError() }
            return response
        }
    }

    private func cancelled(_ request: ForgeRequest) -> ForgeFailure {
        var failure = ForgeFailure(.unreachable, "\(request.name): cancelled. It may be made again.")
        failure.mayHaveBeenDone = true
        return failure
    }

    /// No answer came, or not all of it.
    private func broken(_ error: any Error) -> Setback {
        switch error {
        case let error as HTTPClientError where error == .connectTimeout:
            Setback(reason: "no connection within \(inWords(patience.connect))", mayHaveBeenDone: false)
        case let error as HTTPClientError where error == .deadlineExceeded:
            Setback(reason: "no answer within \(inWords(patience.request))", mayHaveBeenDone: true)
        case let error as NIOConnectionError:
            Setback(reason: "no connection to \(error.host):\(error.port)", mayHaveBeenDone: false)
        case let error as IOError where error.errnoCode == ECONNREFUSED:
            Setback(reason: "the connection was refused", mayHaveBeenDone: false)
        default:
            Setback(reason: "the connection broke (\(token.removed(from: "\(error)")))", mayHaveBeenDone: true)
        }
    }

    /// What a status means; the same for both forges.
    private func judged(_ response: ForgeResponse, of request: ForgeRequest) -> Attempt {
        let complaint = response.complaint(without: token)
        let said = "status \(response.status)" + (complaint.isEmpty ? "" : " (\(complaint))")
        func refused(_ remedy: String) -> Attempt {
            .failure(ForgeFailure(.refused, "\(request.name): \(said). \(remedy)", status: response.status))
        }
        switch response.status {
        case 200..<300:
            return .answer(response)
        case 300..<400:
            return refused(
                "The forge has it at another place now, and the token is sent to no other. Name the new place in [outbox]."
            )
        case let status where status == 429 || (status == 403 && isLimit(response, complaint)):
            // A secondary limit without a time: docs.github.com says "at least one minute".
            let wait = response.requestedWait ?? (response.status == 403 ? .seconds(60) : nil)
            return .setback(
                Setback(
                    reason: "\(said), a limit is reached", wait: wait, status: response.status, mayHaveBeenDone: false))
        case 408, 500...:
            return .setback(
                Setback(reason: said, wait: response.requestedWait, status: response.status, mayHaveBeenDone: true))
        case 401:
            return refused("The token is not accepted, or no longer. Set a new one in the environment.")
        case 403:
            return refused("The token's user may not do this. Give it the right to read and write issues.")
        case 404, 410:
            return refused("It is not there, or the token's user may not see it. Check [outbox] and the token.")
        default:
            return refused("The forge does not accept it. Check names of labels and users in the profile.")
        }
    }

    private func isLimit(_ response: ForgeResponse, _ complaint: String) -> Bool {
        response.requestedWait != nil || complaint.lowercased().contains("rate limit")
    }
}

private func inWords(_ duration: Duration) -> String {
    duration < .seconds(1) ? "\(duration)" : "\(duration.components.seconds) s"
}
