import FlyingFox
import Foundation
import Synchronization

/// What a forge holds, and what it has been asked.
struct Model: Sendable {
    /// Which requests are meant.
    struct Match: Sendable {
        let method: String?
        let path: String?

        func includes(_ request: FakeForge.Request) -> Bool {
            (method ?? request.method) == request.method && (path.map { request.path.contains($0) } ?? true)
        }
    }

    struct Planned: Sendable {
        let failure: FakeForge.Failure
        let match: Match
        var rest: Int
    }

    struct Interruption: Sendable {
        let match: Match
        let body: @Sendable () -> Void
    }

    var issues: [Int: FakeIssue] = [:]
    var failures: [Planned] = []
    var requests: [FakeForge.Request] = []
    var interruptions: [Interruption] = []
    private var seconds = 0.0

    /// The next second of a clock that only changes move: 2026-02-14T12:00:00Z and on.
    mutating func now() -> Date {
        seconds += 1
        return Date(timeIntervalSince1970: 1_771_070_400 + seconds)
    }

    mutating func change<Value>(_ number: Int, _ change: (inout FakeIssue) -> Value) -> Value {
        issues[number]!.updatedAt = now()
        return change(&issues[number]!)
    }

    /// The failure that is planned for a request, if any.
    mutating func failure(for request: FakeForge.Request) -> FakeForge.Failure? {
        guard let index = failures.firstIndex(where: { $0.rest > 0 && $0.match.includes(request) }) else { return nil }
        failures[index].rest -= 1
        return failures[index].failure
    }

    /// The interruption that is planned for a request, if any.
    mutating func interruption(of request: FakeForge.Request) -> (@Sendable () -> Void)? {
        guard let index = interruptions.firstIndex(where: { $0.match.includes(request) }) else { return nil }
        return interruptions.remove(at: index).body
    }
}

/// An answer before it is sent.
struct Reply: Sendable {
    var status = 200
    var headers: [String: String] = [:]
    var body = Data()

    static func json(_ value: Any, status: Int = 200) -> Reply {
        // Values are made of literals here, so they can be written.
        let data = try! JSONSerialization.data(withJSONObject: value, options: [.fragmentsAllowed, .sortedKeys])
        return Reply(status: status, headers: ["Content-Type": "application/json; charset=utf-8"], body: data)
    }

    static func message(_ status: Int, _ text: String) -> Reply { json(["message": text], status: status) }
}

/// How one of the forges answers.
protocol Face: Sendable {
    func reply(to request: FakeForge.Request, _ model: inout Model, page: Page) -> Reply
}

/// Cuts lists into pages.
struct Page: Sendable {
    let request: FakeForge.Request
    let size: Int

    /// One page, with the links to the others.
    ///
    /// See: docs.github.com, "Using pagination in the REST API"; docs.gitlab.com, "REST API", "Pagination".
    func reply(_ all: [Any]) -> Reply {
        let query = request.query
        let number = max(1, Int(query["page"] ?? "") ?? 1)
        let length = max(1, min(size, Int(query["per_page"] ?? "") ?? 30))
        let last = max(1, (all.count + length - 1) / length)
        var reply = Reply.json(Array(all.dropFirst((number - 1) * length).prefix(length)))
        func link(_ page: Int, _ relation: String) -> String {
            let rest = request.target.split(separator: "?").dropFirst().joined().split(separator: "&")
                .filter { !$0.hasPrefix("page=") }
            let path = request.path
            let host = request.headers["host"] ?? ""
            return "<http://\(host)\(path)?\((rest + ["page=\(page)"]).joined(separator: "&"))>; rel=\"\(relation)\""
        }
        var links = [link(1, "first"), link(last, "last")]
        if number < last { links.insert(link(number + 1, "next"), at: 0) }
        if number > 1 { links.insert(link(number - 1, "prev"), at: 0) }
        if last > 1 { reply.headers["Link"] = links.joined(separator: ", ") }
        return reply
    }
}

/// A model behind a lock, and the way of a request through it.
final class Store: Sendable {
    private let model = Mutex(Model())
    private let pageSize: Int

    init(pageSize: Int) { self.pageSize = pageSize }

    func withModel<Value: Sendable>(_ body: (inout Model) -> Value) -> Value {
        model.withLock { model in body(&model) }
    }

    func answer(_ incoming: HTTPRequest, as face: any Face) async throws -> HTTPResponse {
        var headers: [String: String] = [:]
        for (name, value) in incoming.headers { headers[name.rawValue.lowercased()] = value }
        let request = FakeForge.Request(
            method: incoming.method.rawValue, target: incoming.target.rawValue, headers: headers,
            body: String(decoding: try await incoming.bodyData, as: UTF8.self))
        let (failure, interruption) = withModel { model in
            model.requests.append(request)
            return (model.failure(for: request), model.interruption(of: request))
        }
        interruption?()
        var reply: Reply?
        var outcome = failure
        switch failure {
        case .afterwards(let later):
            reply = self.reply(to: request, as: face)
            outcome = later
        case .none: reply = self.reply(to: request, as: face)
        default: break
        }
        switch outcome {
        case .none:
            guard let reply else { throw HTTPUnhandledError() }
            return reply.response
        case .answer(let status, let headers, let body):
            return Reply(status: status, headers: headers, body: Data(body.utf8)).response
        case .garbage:
            return Reply(headers: ["Content-Type": "text/html"], body: Data("<html>Please log in.</html>".utf8))
                .response
        case .hang:
            try await Task.sleep(for: .seconds(3600))
            throw HTTPUnhandledError()
        case .drop, .afterwards:
            // An upgrade that fails is the one way to make the server close a connection without a word.
            return HTTPResponse(webSocket: NoUpgrade())
        }
    }

    private func reply(to request: FakeForge.Request, as face: any Face) -> Reply {
        let page = Page(request: request, size: pageSize)
        return withModel { model in face.reply(to: request, &model, page: page) }
    }
}

extension Reply {
    fileprivate var response: HTTPResponse {
        var fields = HTTPHeaders()
        for (name, value) in headers { fields[HTTPHeader(name)] = value }
        return HTTPResponse(statusCode: HTTPStatusCode(status, phrase: "Fake"), headers: fields, body: body)
    }
}

private struct NoUpgrade: WSHandler {
    func makeFrames(for client: AsyncThrowingStream<WSFrame, any Error>) async throws -> AsyncStream<WSFrame> {
        throw CancellationError()
    }
}
