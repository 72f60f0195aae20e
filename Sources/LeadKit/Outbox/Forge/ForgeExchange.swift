import Foundation
import NIOHTTP1

/// One request to a forge.
struct ForgeRequest: Sendable {
    let method: HTTPMethod
    let url: String
    /// JSON; nil for none.
    let body: Data?
    /// Whether sending it a second time does no more than sending it once.
    let isRepeatable: Bool

    /// A request without consequences.
    static func get(_ url: String) -> ForgeRequest {
        ForgeRequest(method: .GET, url: url, body: nil, isRepeatable: true)
    }

    /// For messages and the log: without the host and without what was asked for.
    var name: String { "\(method.rawValue) \(URLComponents(string: url)?.percentEncodedPath ?? "?")" }
}

/// What a forge answered, read to its end.
struct ForgeResponse: Sendable {
    let status: Int
    let headers: HTTPHeaders
    let body: Data

    /// The page that follows this one, as `Link: <...>; rel="next"` has it (RFC 8288); both forges send it.
    ///
    /// See: docs.github.com, "Using pagination in the REST API"; docs.gitlab.com, "REST API", "Pagination".
    var nextPage: String? {
        var rest = Substring(headers["link"].joined(separator: ", "))
        while let open = rest.firstIndex(of: "<"), let close = rest[open...].firstIndex(of: ">") {
            let target = rest[rest.index(after: open)..<close]
            rest = rest[rest.index(after: close)...]
            let parameters = rest.prefix { $0 != "<" }.lowercased().split(whereSeparator: { ";, ".contains($0) })
            if parameters.contains("rel=\"next\"") || parameters.contains("rel=next") { return String(target) }
        }
        return nil
    }

    /// How long the forge asks to be left alone; nil when it does not say.
    ///
    /// The time of a limit's end is the server's, so it is taken relative to the answer's `Date`.
    ///
    /// See: RFC 9110 10.2.3 (`Retry-After`); docs.github.com, "Rate limits for the REST API"; docs.gitlab.com, "Rate
    /// limits", "Rate limit headers".
    var requestedWait: Duration? {
        let now = headers.first(name: "date").flatMap(Self.date) ?? Date()
        if let text = headers.first(name: "retry-after") {
            if let seconds = Int(text), seconds >= 0 { return .seconds(min(seconds, Self.longest)) }
            return Self.date(text).map { Self.wait(until: $0, from: now) }
        }
        for prefix in ["x-ratelimit", "ratelimit"] where headers.first(name: "\(prefix)-remaining") == "0" {
            guard let seconds = headers.first(name: "\(prefix)-reset").flatMap({ Int($0) }) else { continue }
            return Self.wait(until: Date(timeIntervalSince1970: TimeInterval(seconds)), from: now)
        }
        return nil
    }

    /// What the forge says about a failure, in one line that does not quote the token; empty when it says nothing that
    /// can be read.
    func complaint(without token: Token) -> String {
        guard let answer = (try? JSONSerialization.jsonObject(with: body)) as? [String: Any],
            let message = answer["message"] ?? answer["error"]
        else { return "" }
        let line = "\(message)".split(whereSeparator: { $0.isNewline || $0.isWhitespace }).joined(separator: " ")
        let printable = token.removed(from: line).unicodeScalars.filter { $0.properties.generalCategory != .control }
        return String(Substring(printable.prefix(200)))
    }

    /// An hour, which is how long GitHub's limits last. Whoever asks for more is asked again after it: a wrong header
    /// must not silence an issue for a year.
    private static let longest = 3600

    private static func wait(until end: Date, from now: Date) -> Duration {
        // Both are whole seconds, which may have been cut off.
        let seconds = end.timeIntervalSince(now) + 1
        return .seconds(Int(min(max(seconds, 0), Double(longest))))
    }

    /// A date in the form of RFC 9110 5.6.7 that servers must send, `Sun, 06 Nov 1994 08:49:37 GMT`.
    private static func date(_ text: String) -> Date? {
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.timeZone = TimeZone(secondsFromGMT: 0)
        format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        return format.date(from: text)
    }
}

/// A request that did not succeed.
struct ForgeFailure: Error, Sendable {
    /// What is told to the caller of the outbox.
    let error: OutboxError
    /// The status of the answer; nil when there was none.
    var status: Int?
    /// Whether the forge may have done what it was asked to all the same.
    var mayHaveBeenDone = false

    init(_ kind: OutboxError.Kind, _ message: String, retryAfter: Duration? = nil, status: Int? = nil) {
        error = OutboxError(kind, message, retryAfter: retryAfter)
        self.status = status
    }
}
