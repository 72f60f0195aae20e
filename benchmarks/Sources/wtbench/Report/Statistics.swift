import Histogram

/// What samples say.
enum Statistics {
    static func median(_ samples: [UInt64]) -> Double { quantile(samples.map { Double($0) }, 0.5) }

    /// Between the two nearest samples, by distance.
    static func quantile(_ values: [Double], _ part: Double) -> Double {
        let sorted = values.sorted()
        guard let last = sorted.indices.last else { return .nan }
        let place = part * Double(last)
        let below = Int(place)
        let above = min(below + 1, last)
        return sorted[below] + (sorted[above] - sorted[below]) * (place - Double(below))
    }

    /// Three significant digits, up to an hour.
    static func histogram(_ samples: [UInt64]) -> Histogram<UInt32> {
        var histogram = Histogram<UInt32>(
            lowestDiscernibleValue: 1, highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .three)
        for sample in samples { histogram.record(min(max(sample, 1), 3_600_000_000_000)) }
        return histogram
    }

    /// The ratios of samples of the same rounds: median, and their spread (10th to 90th percentile; all when there are
    /// fewer than ten).
    static func ratio(_ over: [UInt64], _ under: [UInt64]) -> (value: Double, low: Double, high: Double)? {
        let pairs = zip(over, under).filter { $0.1 > 0 }.map { Double($0.0) / Double($0.1) }
        guard !pairs.isEmpty else { return nil }
        let edge = pairs.count < 10 ? 0 : 0.1
        return (quantile(pairs, 0.5), quantile(pairs, edge), quantile(pairs, 1 - edge))
    }
}
