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

    /// Refuses to begin when an attempt would be carried by nobody, since its role is not enabled any more: its issue
    /// would stay `doing`.
    func checkRoles() async throws(EngineError) {
        let open = try await Engine.catching("reading open attempts") {
            try await engine.registry.openAllocations(outbox: outbox.name)
        }
        for allocation in open where !profile.roles.contains(allocation.role) {
            throw EngineError(
                .configuration, .needsHuman,
                "the attempt \(allocation.key) of the group \(allocation.group ?? "-") has not ended, and \(profile.path) "
                    + "does not enable its role \(allocation.role) any more. Enable the role, with a group, until the "
                    + "attempt has ended.")
        }
    }
}

extension Duration {
    /// As a date counts.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
