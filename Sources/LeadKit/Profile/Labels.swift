/// The labels that tell an issue's state, and the one that gates it.
public struct Labels: Sendable, Hashable {
    /// The gate: nothing automatic happens to an issue that carries it. `needs-human` unless the profile renames it.
    public let needsHuman: String
    private let names: [TaskState: String]

    /// Labels as they are by default, or with other names.
    /// - Parameter names: for states that are not called `state:` and the state's own name.
    public init(names: [TaskState: String] = [:], needsHuman: String = "needs-human") {
        self.needsHuman = needsHuman
        self.names = names
    }

    /// The label of a state.
    public func name(of state: TaskState) -> String { names[state] ?? "state:\(state.rawValue)" }

    /// The state that a label tells; nil for other labels.
    public func state(of label: String) -> TaskState? { TaskState.allCases.first { name(of: $0) == label } }

    /// The labels of all states.
    public var stateNames: Set<String> { Set(TaskState.allCases.map { name(of: $0) }) }

    /// Whether the gate is among these labels. Case does not count: a gate that somebody set by hand is meant.
    public func isGated(_ labels: some Sequence<String>) -> Bool {
        let gate = needsHuman.lowercased()
        return labels.contains { $0.lowercased() == gate }
    }

    /// Whether a label is one of these, whatever its case.
    func isReserved(_ label: String) -> Bool {
        let label = label.lowercased()
        return label == needsHuman.lowercased() || stateNames.contains { $0.lowercased() == label }
    }
}
