import CommandKit
import Foundation
import Glibc
import Settings

/// Instants as text: ISO 8601, always in UTC, so that lines of several machines compare as text.
enum Timestamp {
    /// For programs, with milliseconds: `2026-02-14T10:00:00.000Z`.
    static func text(_ date: Date) -> String {
        // The registry keeps whole milliseconds; going through integers keeps a binary fraction from losing one.
        let milliseconds = Int64((date.timeIntervalSince1970 * 1000).rounded())
        let (seconds, rest) = (milliseconds.flooring(1000), milliseconds - milliseconds.flooring(1000) * 1000)
        return "\(calendar(seconds)).\(padded(rest, 3))Z"
    }

    /// For people, to the second: `2026-02-14T10:00:00Z`.
    static func short(_ date: Date) -> String { "\(calendar(Int64(date.timeIntervalSince1970.rounded(.down))))Z" }

    /// Reads a date, a date with a time, or a duration back from now.
    /// - Throws: ``Failure`` that says what is accepted.
    static func parse(_ text: String, now: Date = Date()) throws -> Date {
        if let back = Quantity.duration(text) { return now - Double(back.components.seconds) }
        let form =
            /(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))?/
            .asciiOnlyDigits()
        guard let match = text.wholeMatch(of: form)?.output else { throw unreadable(text) }
        func number(_ digits: Substring?) -> Int32 { digits.flatMap { Int32($0) } ?? 0 }
        var time = tm()
        (time.tm_year, time.tm_mon, time.tm_mday) = (number(match.1) - 1900, number(match.2) - 1, number(match.3))
        (time.tm_hour, time.tm_min, time.tm_sec) = (number(match.4), number(match.5), number(match.6))
        let given = time
        let seconds = timegm(&time)
        // timegm carries February 30 over into March; a person who writes it made a mistake.
        guard time.tm_mon == given.tm_mon, time.tm_mday == given.tm_mday, time.tm_hour == given.tm_hour,
            time.tm_min == given.tm_min, time.tm_sec == given.tm_sec
        else { throw unreadable(text) }
        return Date(timeIntervalSince1970: Double(seconds - offset(match.7)))
    }

    /// The seconds that a zone such as `+02:00` is ahead of UTC.
    private static func offset(_ zone: Substring?) -> Int {
        guard let zone, zone != "Z" else { return 0 }
        let parts = zone.dropFirst().split(separator: ":").compactMap { Int($0) }
        return (parts[0] * 60 + parts[1]) * (zone.hasPrefix("-") ? -60 : 60)
    }

    private static func unreadable(_ text: String) -> Failure {
        .usage(
            "\(text.debugDescription) is not a time: expected a date (2026-02-14, in UTC), a date with time and zone "
                + "(2026-02-14T10:00:00Z) or a duration back from now (90s, 30m, 2h, 7d)")
    }

    private static func calendar(_ seconds: Int64) -> String {
        var (clock, time) = (time_t(seconds), tm())
        gmtime_r(&clock, &time)
        let date =
            "\(padded(Int64(time.tm_year) + 1900, 4))-\(padded(Int64(time.tm_mon) + 1))-\(padded(Int64(time.tm_mday)))"
        return "\(date)T\(padded(Int64(time.tm_hour))):\(padded(Int64(time.tm_min))):\(padded(Int64(time.tm_sec)))"
    }

    private static func padded(_ number: Int64, _ width: Int = 2) -> String {
        let digits = "\(number)"
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}

extension Int64 {
    /// The quotient rounded down, also before 1970.
    fileprivate func flooring(_ divisor: Int64) -> Int64 {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

extension JSON {
    static func date(_ value: Date?) -> JSON { .text(value.map { Timestamp.text($0) }) }
}
