import Foundation
import Glibc

/// Where a forge's REST API is. Requests go there and nowhere else, since the token goes with them.
struct ForgeAddress: Sendable, Hashable {
    /// Without a slash at its end.
    private let base: String
    /// Scheme, host and port, in the form in which two can be compared.
    private let origin: String

    /// Takes the URL of an API, such as `https://api.github.com` or `https://gitlab.example.com/api/v4`.
    /// - Throws: ``OutboxError`` of the kind ``OutboxError/Kind/refused`` when it is no such URL, holds a password, or
    ///   would send the token unencrypted over a network.
    init(_ api: String) throws(OutboxError) {
        let expected = "Set `url` in [outbox] to the API's URL, such as \"https://git.example.com/api/v4\"."
        guard let parts = URLComponents(string: api), let origin = Self.origin(of: parts), parts.user == nil,
            parts.password == nil, parts.query == nil, parts.fragment == nil
        else { throw OutboxError(.refused, "the forge's address is not the URL of an API. \(expected)") }
        guard parts.scheme?.lowercased() == "https" || Self.isLoopback(parts.host ?? "") else {
            throw OutboxError(
                .refused, "\(api) is not encrypted, and the token would go over the network as it is. Take https.")
        }
        self.origin = origin
        base = api.hasSuffix("/") ? String(api.dropLast()) : api
    }

    /// The URL of a path of the API.
    /// - Parameters:
    ///   - path: its segments, which are escaped here.
    ///   - query: names and values, likewise.
    func url(_ path: [String], _ query: [(String, String)] = []) -> String {
        let parameters = query.map { "\(Self.escaped($0.0))=\(Self.escaped($0.1))" }.joined(separator: "&")
        return ([base] + path.map(Self.escaped)).joined(separator: "/") + (parameters.isEmpty ? "" : "?\(parameters)")
    }

    /// Whether a URL that an answer named is one of this server.
    func serves(_ url: String) -> Bool {
        guard let parts = URLComponents(string: url), parts.user == nil, parts.password == nil else { return false }
        return Self.origin(of: parts) == origin
    }

    private static func origin(of parts: URLComponents) -> String? {
        guard let scheme = parts.scheme?.lowercased(), let standard = ["http": 80, "https": 443][scheme],
            let host = parts.host?.lowercased(), !host.isEmpty
        else { return nil }
        return "\(scheme)://\(host):\(parts.port ?? standard)"
    }

    /// `localhost` and the addresses of RFC 1122 3.2.1.3 and RFC 4291 2.5.3. A name such as `127.example.com` is none.
    private static func isLoopback(_ host: String) -> Bool {
        if ["localhost", "::1", "[::1]"].contains(host.lowercased()) { return true }
        var address = in_addr()
        // See: man 3 inet_pton. The address is in network byte order, so its first byte in memory is its first number.
        return inet_pton(AF_INET, host, &address) == 1 && withUnsafeBytes(of: address) { $0[0] } == 127
    }

    /// Everything but the unreserved characters of RFC 3986 2.3 is escaped: a `/` in a name is no separator.
    private static func escaped(_ text: String) -> String {
        let hex = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                bytes.append(byte)
            default: bytes += [UInt8(ascii: "%"), hex[Int(byte >> 4)], hex[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
