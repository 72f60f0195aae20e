import Synchronization

/// Lets asynchronous work go one after the other, in the order of the calls. An actor would let a second call in at every
/// `await` of the first.
final class Turns: Sendable {
    private let last = Mutex<Task<Void, Never>?>(nil)

    /// Waits for the work of earlier calls, then does this. Cancelling the caller cancels its own work alone.
    func take<Value: Sendable>(_ work: @escaping @Sendable () async -> Value) async -> Value {
        let mine = last.withLock { last in
            let earlier = last
            let mine = Task {
                await earlier?.value
                return await work()
            }
            last = Task { _ = await mine.value }
            return mine
        }
        return await withTaskCancellationHandler {
            await mine.value
        } onCancel: {
            mine.cancel()
        }
    }
}
