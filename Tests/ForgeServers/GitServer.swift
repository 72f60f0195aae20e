import FlyingFox
import Foundation
import Subprocess
import SystemPackage

/// The bare repositories below a directory over git's smart HTTP, on a free port of loopback: `git http-backend` behind
/// a server. Anybody may clone and push. It ends when this goes.
///
/// See: man git-http-backend; RFC 3875 for what a CGI program is told.
public final class GitServer: Sendable {
    private let server: Loopback

    /// Starts it.
    /// - Parameter root: the directory.
    public init(root: String) async throws {
        server = try await Loopback { try await Self.answer($0, root: root) }
    }

    /// The URL of a repository.
    /// - Parameter name: its path below the root, such as `org/repo.git`.
    public func url(of name: String) -> String { "http://127.0.0.1:\(server.port)/\(name)" }

    private static func answer(_ request: HTTPRequest, root: String) async throws -> HTTPResponse {
        // Of unknown length when the client sends it in chunks, so it is read before the program is told its length.
        let body = try await request.bodyData
        var variables: [Subprocess.Environment.Key: String?] = [
            "GIT_PROJECT_ROOT": root, "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": request.method.rawValue,
            "PATH_INFO": request.target.path(percentEncoded: false), "QUERY_STRING": request.target.query(),
            "CONTENT_LENGTH": "\(body.count)", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            // With a user, pushing is allowed.
            "REMOTE_USER": "test", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
        ]
        for (name, header) in [
            ("CONTENT_TYPE", "Content-Type"), ("HTTP_CONTENT_ENCODING", "Content-Encoding"),
            ("GIT_PROTOCOL", "Git-Protocol"),
        ] {
            variables[.init(stringLiteral: name)] = .some(request.headers[HTTPHeader(header)])
        }
        let result = try await Subprocess.run(
            .name("git"), arguments: ["http-backend"], environment: .inherit.updating(variables),
            input: .array(Array(body)), output: .bytes(limit: 256 << 20), error: .string(limit: 1 << 20))
        return response(Data(result.standardOutput))
    }

    /// A CGI program's header and body as a response; without a `Status` it is 200.
    private static func response(_ output: Data) -> HTTPResponse {
        guard let end = output.firstRange(of: Data("\r\n\r\n".utf8)) else {
            return HTTPResponse(statusCode: .badGateway)
        }
        var status = HTTPStatusCode.ok
        var headers = HTTPHeaders()
        for line in String(decoding: output[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n") {
            let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            guard parts.count == 2 else { continue }
            if parts[0].lowercased() == "status", let code = Int(parts[1].prefix(3)) {
                status = HTTPStatusCode(code, phrase: String(parts[1].dropFirst(4)))
            } else {
                headers[HTTPHeader(parts[0])] = parts[1]
            }
        }
        return HTTPResponse(statusCode: status, headers: headers, body: Data(output[end.upperBound...]))
    }
}
