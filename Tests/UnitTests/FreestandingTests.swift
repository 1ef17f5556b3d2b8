import Testing
@testable import FreestandingHosted
@Test func pagesAreAligned() { #expect(pageAlignUp(4097) == 8192) }
