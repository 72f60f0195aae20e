import Foundation
import NIOHTTP1

extension ForgeClient {
    /// One value.
    /// - Throws: ``ForgeFailure``; its kind is ``OutboxError/Kind/damaged`` when the answer is something else.
    func get<Value: Decodable>(_ type: Value.Type, _ path: [String]) async throws(ForgeFailure) -> Value {
        let request = ForgeRequest.get(address.url(path))
        return try decoded(type, try await send(request), of: request)
    }

    /// Every page of a list, in the order of the forge.
    /// - Throws: ``ForgeFailure``.
    func list<Element: Decodable>(
        _ type: Element.Type, _ path: [String], _ query: [(String, String)] = []
    ) async throws(ForgeFailure) -> [Element] {
        var request = ForgeRequest.get(address.url(path, query))
        var elements: [Element] = []
        for _ in 0..<patience.mostPages {
            let response = try await send(request)
            elements += try decoded([Element].self, response, of: request)
            guard let next = response.nextPage else { return elements }
            guard address.serves(next) else {
                throw ForgeFailure(
                    .damaged,
                    "\(request.name): the next page is said to be on another server, where the token is not sent. Set "
                        + "`url` in [outbox] to the URL that the forge uses for itself, or mend the forge's.")
            }
            request = .get(next)
        }
        throw ForgeFailure(
            .damaged,
            "\(request.name): the list has more than \(patience.mostPages) pages. Make it shorter, or find out "
                + "why it does not end.")
    }

    /// Sends a change.
    /// - Parameters:
    ///   - fields: the body, as JSON; nil for none.
    ///   - isRepeatable: see ``ForgeRequest/isRepeatable``.
    /// - Throws: ``ForgeFailure``.
    func change(
        _ method: HTTPMethod, _ path: [String], _ fields: (any Encodable)? = nil, isRepeatable: Bool
    ) async throws(ForgeFailure) {
        let url = address.url(path)
        let body: Data?
        do {
            body = try fields.map { try JSONEncoder().encode($0) }
        } catch {
            throw ForgeFailure(.damaged, "\(method.rawValue) \(url): this cannot be written as JSON (\(error)).")
        }
        _ = try await send(ForgeRequest(method: method, url: url, body: body, isRepeatable: isRepeatable))
    }

    private func decoded<Value: Decodable>(
        _ type: Value.Type, _ response: ForgeResponse, of request: ForgeRequest
    ) throws(ForgeFailure) -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        decoder.dateDecodingStrategy = .custom { try date(from: $0) }
        do {
            return try decoder.decode(type, from: response.body)
        } catch {
            // The text of the answer is not quoted: it may be anything of any length.
            throw ForgeFailure(
                .damaged,
                "\(request.name): the answer is not what the forge's REST documentation says. Check that `url` in "
                    + "[outbox] is the URL of the API and that nothing between here and there answers in its place.",
                status: response.status)
        }
    }
}

/// ISO 8601 with or without fractions of a second: GitLab sends them, GitHub does not.
private func date(from decoder: any Decoder) throws -> Date {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    for fractions in [true, false] {
        if let date = try? Date.ISO8601FormatStyle(includingFractionalSeconds: fractions).parse(text) { return date }
    }
    throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a date")
}
