public import Registry

extension Engine {
    /// What happens to runs, as rows of the audit log in the order of their commits: what this engine does, and what
    /// other engines and processes of the state directory do.
    ///
    /// ```swift
    /// for try await event in engine.events(since: cursor) where event.action == .cleanupDone {
    ///     // ...
    /// }
    /// ```
    ///
    /// The log is the truth, not the moment: nothing is lost or repeated for who comes late, is slow, or goes on after a
    /// restart with the id of the last event that it has dealt with. Rows are read in batches when they are asked for;
    /// nothing is buffered beside that.
    ///
    /// A commit of this engine is seen at once, one of another at the next look. The sequence ends when the task is
    /// cancelled, and after ``close()`` with the last event that is there. Any number of tasks may have one.
    /// - Parameters:
    ///   - id: the last event that was seen; nil for the whole log from its beginning. See ``lastEventID()``.
    ///   - interval: how often to look for commits of others.
    /// - Returns: a sequence that throws ``EngineError`` when the registry cannot be read, with
    ///   ``EngineError/Code/invalidInput`` when the log ends before `id`.
    public func events(
        since id: AuditEvent.ID? = nil, polling interval: Duration = .milliseconds(250)
    ) -> some AsyncSequence<AuditEvent, EngineError> & Sendable {
        EventSequence(registry: registry, since: id ?? 0, interval: interval)
    }

    /// The id of the newest event; 0 when there is none. Where a scheduler begins that has no interest in the past.
    /// - Throws: ``EngineError``.
    public func lastEventID() async throws(EngineError) -> AuditEvent.ID {
        try await Self.catching("events") { try await self.registry.lastEventID() }
    }
}

private struct EventSequence: AsyncSequence, Sendable {
    let registry: Registry
    let since: AuditEvent.ID
    let interval: Duration

    func makeAsyncIterator() -> Iterator { Iterator(registry: registry, interval: interval, last: since) }

    struct Iterator: AsyncIteratorProtocol {
        let registry: Registry
        let interval: Duration
        /// The last event that was given out.
        var last: AuditEvent.ID
        var batch: ArraySlice<AuditEvent> = []
        var hasLooked = false
        var isOver = false

        private static let batchSize = 100

        mutating func next(isolation actor: isolated (any Actor)?) async throws(EngineError) -> AuditEvent? {
            if isOver { return nil }
            do {
                if batch.isEmpty { batch = try await nextBatch()[...] }
            } catch {
                isOver = true
                throw EngineError.wrap(error, "events")
            }
            guard !Task.isCancelled, let event = batch.popFirst() else {
                isOver = true
                return nil
            }
            last = event.id
            return event
        }

        /// Waits for rows. Empty at the end of the sequence.
        private mutating func nextBatch() async throws -> [AuditEvent] {
            while !Task.isCancelled {
                // Asked before the look, so that a commit beside it leads to another one.
                let commits = registry.commitCount
                let isClosed = registry.isClosedForFollowers
                let version = try await registry.foreignVersion()
                let found = try await registry.events(after: last, limit: Self.batchSize)
                if found.isEmpty, !hasLooked { try await checkBeginning() }
                hasLooked = true
                if !found.isEmpty || isClosed { return found }
                repeat {
                    await registry.waitForCommit(after: commits, for: interval)
                } while try await isQuiet(
                    since: commits, version)
            }
            return []
        }

        private func isQuiet(since commits: Int, _ version: Int64) async throws -> Bool {
            if Task.isCancelled || registry.isClosedForFollowers || registry.commitCount != commits { return false }
            return try await registry.foreignVersion() == version
        }

        /// Ids begin anew in a registry that was lost and rebuilt; who asks for what follows an old one would miss
        /// events without a word.
        private func checkBeginning() async throws {
            let newest = try await registry.lastEventID()
            guard newest < last else { return }
            throw EngineError(
                .invalidInput, .retry,
                "there is no event \(last): the newest in \(registry.path) is \(newest). It was rebuilt since, or the id is "
                    + "of another state directory. Compare with the runs as they are, then go on from event \(newest).")
        }
    }
}
