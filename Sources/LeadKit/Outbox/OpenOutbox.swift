public import Logging

extension Profile {
    /// Opens the outbox that the profile names.
    ///
    /// Nothing is asked of a forge yet. Its token is read here, and is kept from everything that this process logs or
    /// reports; whoever starts a worker has to leave it out of the worker's environment.
    /// - Parameters:
    ///   - actor: who stands beside the events of a database; on a forge it is the token's user.
    ///   - environment: holds the token of a forge: `GITHUB_TOKEN`, else `GH_TOKEN`, or `GITLAB_TOKEN`.
    ///   - logger: what is tried again is logged as `notice`, each answer as `debug`.
    /// - Throws: ``OutboxError`` when the database cannot be used, or when there is no token or no proper address.
    public func openOutbox(
        actor: String = "wtengine", environment: [String: String], logger: Logger = Logger(label: "wtengine.outbox")
    ) throws(OutboxError) -> any Outbox {
        switch outbox {
        case .sqlite(let path):
            return try SQLiteOutbox(path: path, labels: labels, actor: actor)
        case .forge(let kind, let repository, let api):
            let client = ForgeClient(
                address: try ForgeAddress(api), token: try Token.read(for: kind, from: environment), logger: logger,
                headers: kind == .github ? GitHub.headers : GitLab.headers)
            return ForgeOutbox(kind: kind, repository: repository, labels: labels, client: client)
        }
    }
}
