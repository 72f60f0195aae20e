/// What a Lead asks of the name of a run's branch, beyond the placeholders that the engine knows.
enum BranchTemplate {
    /// Why a template will not do, as a clause that goes on from it; nil when it will.
    static func objection(to template: String) -> String? {
        // A run id counts per issue, so it takes both to name a run.
        for placeholder in ["{issue}", "{run}"] where !template.contains(placeholder) {
            return "has no \(placeholder), so two runs would want the same branch. Expected for example "
                + "\"run/{issue}/{run}\"."
        }
        let sample = ["{issue}": "local#1", "{run}": "2026-02-14-qa-0001", "{role}": "qa"]
            .reduce(template) { $0.replacing($1.key, with: $1.value) }
        return isBranchName(sample) ? nil : "makes no valid branch name. See: git help check-ref-format."
    }

    /// The rules of `git check-ref-format --branch`, for ASCII and more. See: man git-check-ref-format
    static func isBranchName(_ name: String) -> Bool {
        let components = name.split(separator: "/", omittingEmptySubsequences: false)
        let forbidden: Set<Unicode.Scalar> = [" ", "~", "^", ":", "?", "*", "[", "\\", "\u{7F}"]
        return !name.hasPrefix("-") && !name.hasSuffix(".") && name != "@" && name != "HEAD"
            && !name.contains("..") && !name.contains("@{")
            && components.allSatisfy { !$0.isEmpty && !$0.hasPrefix(".") && !$0.hasSuffix(".lock") }
            && name.unicodeScalars.allSatisfy { $0.value >= 0x20 && !forbidden.contains($0) }
    }
}
