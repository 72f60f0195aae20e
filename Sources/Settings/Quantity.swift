/// Amounts with a unit, as people write them in settings and in options.
package enum Quantity {
    package static let durationForms = "a duration such as \"90s\", \"30m\", \"24h\" or \"7d\", at most 36500d"
    package static let sizeForms = "a size such as \"256MiB\" or \"1GiB\" (B, KiB, MiB, GiB, TiB), or a number of bytes"

    /// A whole number of seconds, minutes, hours or days; nil for anything else.
    package static func duration(_ text: String) -> Duration? {
        // A hundred years: far enough from where an instant no longer fits into the registry's milliseconds.
        guard let seconds = amount(text, ["s": 1, "m": 60, "h": 3600, "d": 86400]), seconds <= 36500 * 86400 else {
            return nil
        }
        return .seconds(seconds)
    }

    /// A whole number of bytes or of a binary unit; nil for anything else.
    package static func bytes(_ text: String) -> Int64? {
        amount(text, ["": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40])
    }

    private static func amount(_ text: String, _ units: [String: Int64]) -> Int64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int64(digits), let unit = units[String(text.dropFirst(digits.count))] else { return nil }
        let (product, overflows) = number.multipliedReportingOverflow(by: unit)
        return overflows ? nil : product
    }
}
