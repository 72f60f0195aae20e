public import Registry

public import struct Foundation.Date

extension Engine {
    /// Gives out the next run id of an issue: `<date>-<role>-<seq>`, with `seq` per issue from 0001 on.
    ///
    /// A number is never given twice, whatever became of its run, and however many processes ask at once.
    /// - Parameter date: its day in UTC stands in the id.
    /// - Throws: ``EngineError`` when the registry cannot be written.
    public func allocate(
        _ issue: IssueRef, role: Role, on date: Date = Date()
    ) async throws(EngineError) -> RunID {
        try await Self.catching("allocating a run id for \(issue)") {
            try await self.registry.allocate(issue, role: role, on: date)
        }
    }
}
