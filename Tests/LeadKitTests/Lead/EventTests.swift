import Synchronization
import Testing

@testable import LeadKit

@Suite struct EventTests {
    @Test func `everybody learns of it once, before and after`() async {
        let event = Event<Int>()
        let seen = Mutex<[Int]>([])
        event.whenFired { value in seen.withLock { $0.append(value) } }
        async let waited = event.fired()
        event.fire(1)
        event.fire(2)
        event.whenFired { value in seen.withLock { $0.append(10 + value) } }
        #expect(await waited == 1)
        #expect(seen.withLock { $0 } == [1, 11])
    }
}
