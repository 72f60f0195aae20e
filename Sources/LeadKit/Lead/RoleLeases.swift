import WorktreeEngine

extension Desk {
    /// The right to be the Lead of each role, for this outbox and state directory.
    ///
    /// Leases are released by the kernel when this process is killed.
    func lock(_ roles: Set<Role>) async throws(EngineError) -> [Lease] {
        var leases: [Lease] = []
        do throws(EngineError) {
            for role in roles.sorted(by: { $0.description < $1.description }) {
                let name = "lead \(role) \(outbox.name)"
                let state = engine.configuration.state
                let lease = try await Engine.catching("locking the role \(role)") {
                    try Lease(ifFree: name, state: state)
                }
                guard let lease else {
                    throw EngineError(
                        .leadRunning, .blocked,
                        "another Lead works for the role \(role) of \(outbox.name) with the state directory \(state). "
                            + "Stop it first, or give each its own roles.")
                }
                leases.append(lease)
            }
        } catch {
            for lease in leases { lease.release() }
            throw error
        }
        return leases
    }
}

extension Duration {
    /// As a date counts.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
