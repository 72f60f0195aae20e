import Synchronization

/// Something that happens once. Whoever asks before or after learns of it.
final class Event<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var waiting: [@Sendable (Value) -> Void] = []
    }

    private let state = Mutex(State())

    /// It happens now; a second time counts for nothing.
    func fire(_ value: Value) {
        let waiting = state.withLock { state -> [@Sendable (Value) -> Void] in
            guard state.value == nil else { return [] }
            state.value = value
            defer { state.waiting = [] }
            return state.waiting
        }
        for body in waiting { body(value) }
    }

    /// Calls `body` once: when it happens, or now when it has.
    func whenFired(_ body: @escaping @Sendable (Value) -> Void) {
        let value = state.withLock { state -> Value? in
            if state.value == nil { state.waiting.append(body) }
            return state.value
        }
        if let value { body(value) }
    }

    /// Waits for it.
    func fired() async -> Value {
        await withCheckedContinuation { continuation in whenFired { continuation.resume(returning: $0) } }
    }
}
