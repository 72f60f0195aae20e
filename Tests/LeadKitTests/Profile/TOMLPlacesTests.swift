import Testing

@testable import Settings

/// Where keys stand. TOMLKit, which reads the same text, says which keys there are.
@Suite struct TOMLPlacesTests {
    /// Every setting of a text as `key line:column`, in the order of the file.
    private func places(_ text: String) throws -> [String] {
        var result: [String] = []
        func collect(_ setting: Setting) {
            if !setting.key.isEmpty { result.append("\(setting.key) \(setting.place.line):\(setting.place.column)") }
            switch setting.value {
            case .array(let inner), .table(let inner): inner.forEach(collect)
            default: break
            }
        }
        collect(try SettingsFile.parse(text, path: "test.toml"))
        return result
    }

    @Test func `keys and tables are found where they stand`() throws {
        let text = """
            # a comment = "no key"
            a = 1
              b = "x" # b = 2

            [t]
            c = true
            [t.u]
            d = 1.5
            """
        #expect(try places(text) == ["a 2:1", "b 3:3", "t 5:2", "t.c 6:1", "t.u 7:4", "t.u.d 8:1"])
    }

    @Test func `strings of all four kinds hide what looks like syntax`() throws {
        let text = #"""
            a = "x = 1 # [no] \" \\" # y = 1
            b = 'c:\' # "
            c = """
            d = 1
            [no]
            quotes "" and \""" and the end"""""
            e = '''
            f = 1 ''
            '''''
            g = ""
            h = ''
            i = """"""
            j = 1
            """#
        #expect(
            try places(text) == [
                "a 1:1", "b 2:1", "c 3:1", "e 7:1", "g 10:1", "h 11:1", "i 12:1", "j 13:1",
            ])
    }

    @Test func `arrays and inline tables are found inside, over several lines`() throws {
        let text = """
            a = [ 1, # one ]
                  "two, ]",

                  [3, 4], { x = 1, y = { z = "}" } },
                ]
            b = 2
            """
        #expect(
            try places(text) == [
                "a 1:1", "a[0] 1:7", "a[1] 2:7", "a[2] 4:7", "a[2][0] 4:8", "a[2][1] 4:11", "a[3] 4:15", "a[3].x 4:17",
                "a[3].y 4:24", "a[3].y.z 4:30", "b 6:1",
            ])
    }

    @Test func `quoted and dotted keys are found by each of their parts`() throws {
        let text = #"""
            "a b".c . 'd.e' = 1
            "\u00fc\t" = 2
            ["x.y" . z]
            "" = 3
            """#
        #expect(
            try places(text) == [
                #""a b" 1:1"#, #""a b".c 1:7"#, #""a b".c."d.e" 1:11"#, #""ü\t" 2:1"#, #""x.y" 3:2"#, #""x.y".z 3:10"#,
                #""x.y".z."" 4:1"#,
            ])
    }

    @Test func `tables below an array of tables belong to its last element`() throws {
        let text = """
            [[a]]
            x = 1
            [a.b]
            y = 1
            [[a]]
            [a.b]
            y = 2
            [[a.c]]
            z = 1
            """
        #expect(
            try places(text) == [
                "a 1:3", "a[0] 1:3", "a[0].x 2:1", "a[0].b 3:4", "a[0].b.y 4:1", "a[1] 5:3", "a[1].b 6:4",
                "a[1].b.y 7:1", "a[1].c 8:5", "a[1].c[0] 8:5", "a[1].c[0].z 9:1",
            ])
    }

    @Test func `dates with a space, numbers and words end where they end`() throws {
        let text = """
            a = [1979-05-27 07:32:00Z, 0xff, +1_000, inf,true]
            b = 1979-05-27 07:32:00 # c
            d = 07:32:00
            """
        #expect(
            try places(text) == [
                "a 1:1", "a[0] 1:6", "a[1] 1:28", "a[2] 1:34", "a[3] 1:42", "a[4] 1:46", "b 2:1", "d 3:1",
            ])
    }

    @Test func `CRLF, a byte order mark and characters outside ASCII move no line and no column`() throws {
        let text = "# ü\n[t]\nä = 1\n".replacing("ä", with: "\"ä\"") + "é.x = 1\nb = 2\n".replacing("é", with: "'é'")
        let expected = ["t 2:2", "t.\"ä\" 3:1", "t.\"é\" 4:1", "t.\"é\".x 4:5", "t.b 5:1"]
        #expect(try places(text) == expected)
        #expect(try places(text.replacing("\n", with: "\r\n")) == expected)
        #expect(try places("\u{FEFF}a = 1") == ["a 1:1"])
    }

    @Test(arguments: [
        "a = \"x\\u0000y\"", "\"a\\u0000\" = 1", "a = \"\"\"\n\\U00000000\"\"\"", "a = [{ b = \"\\u0000\" }]",
    ])
    func `an escaped NUL, which would cut a value short, is refused`(_ text: String) throws {
        #expect(throws: SettingsError.self) { try SettingsFile.parse(text, path: "test.toml") }
        do { _ = try SettingsFile.parse(text, path: "test.toml") } catch {
            #expect(error.description.contains("NUL"))
            #expect(error.place != nil)
        }
    }

    @Test(arguments: [
        String(repeating: "a.", count: 40) + "a = 1",
        "a = " + String(repeating: "[", count: 40) + String(repeating: "]", count: 40),
        "[" + String(repeating: "a.", count: 20) + "a]\n" + String(repeating: "b.", count: 20) + "b = 1",
        "a = " + String(repeating: "{ a = ", count: 40) + "1" + String(repeating: " }", count: 40),
    ]) func `deep nesting is refused and not descended into`(_ text: String) {
        #expect(throws: SettingsError.self) { try SettingsFile.parse(text, path: "test.toml") }
    }

    @Test func `a key of half a million parts is refused`() {
        let text = String(repeating: "a.", count: 500_000) + "a = 1"
        #expect(throws: SettingsError.self) { try SettingsFile.parse(text, path: "test.toml") }
    }

    /// Texts cut off anywhere are refused by TOMLKit mostly; the scanner itself comes to an end with all of them.
    @Test func `no text makes it stand still or run out`() throws {
        let text = #"a = [1, {"b" = 'x', c.d = """y\u00e4"""}] # e"# + "\n[[f.\"g\"]]\nh = '''\n'''\r\n"
        let scalars = Array(text.unicodeScalars)
        for count in 0...scalars.count {
            for rest in [scalars[..<count], scalars[count...]] {
                var view = String.UnicodeScalarView()
                view.append(contentsOf: rest)
                _ = try TOMLPlaces(String(view))
            }
        }
    }

    @Test func `every key that TOMLKit finds has a place where its name stands`() throws {
        var generator = Numbers(state: 42)
        for _ in 0..<300 {
            let text = document(&generator)
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0.unicodeScalars) }
            func check(_ setting: Setting) {
                if !setting.key.isEmpty, !setting.key.hasSuffix("]") {
                    var found = String.UnicodeScalarView()
                    found.append(contentsOf: lines[setting.place.line - 1][(setting.place.column - 1)...])
                    let names = [setting.name, setting.name.debugDescription, "'\(setting.name)'"]
                    #expect(names.contains { String(found).hasPrefix($0) }, "\(setting.key) in\n\(text)")
                }
                switch setting.value {
                case .array(let inner), .table(let inner): inner.forEach(check)
                default: break
                }
            }
            check(try SettingsFile.parse(text, path: "test.toml"))
        }
    }

    /// A valid document of random keys and values.
    private func document(_ numbers: inout Numbers) -> String {
        var next = 0
        func key() -> String {
            next += 1
            return ["k\(next)", "\"k \(next)\"", "'k.\(next)'"].randomElement(using: &numbers)!
        }
        func value(_ depth: Int) -> String {
            let scalars = ["1", "\"a ] } # b\"", "'\\'", "true", "\"\"\"\n[x]\n\"\"\"", "1979-05-27", "'''a\n=\n'''"]
            switch Int.random(in: 0..<(depth > 3 ? 1 : 4), using: &numbers) {
            case 1:
                let inner = (0..<Int.random(in: 0...3, using: &numbers)).map { _ in value(depth + 1) }
                return "[ # c ]\n  \(inner.joined(separator: " ,\n"))\n]"
            case 2:
                let inner = (0..<Int.random(in: 0...3, using: &numbers)).map { _ in "\(key()) = \(scalars[0])" }
                return "{ \(inner.joined(separator: ", ")) }"
            default: return scalars.randomElement(using: &numbers)!
            }
        }
        var text = ""
        for _ in 0..<Int.random(in: 1...8, using: &numbers) {
            switch Int.random(in: 0..<5, using: &numbers) {
            case 0: text += "[\(key())]\n"
            case 1: text += "[[\(key()) . \(key())]] # [c]\n"
            case 2: text += "  \(key()).\(key()) = \(value(0))\n\n"
            default: text += "\(key()) = \(value(0)) # \"\n"
            }
        }
        return text
    }
}

/// The same numbers in every run. See: https://prng.di.unimi.it/splitmix64.c
private struct Numbers: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
