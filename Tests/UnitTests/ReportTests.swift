import Testing
import CkptReport

@Test func aProblemIsOneLine() {
    let p = Problem(.refused, "checkpoint", object: "job", cause: "pid 812", "fd 7", "inotify\nqueue", remedy: "close it")
    #expect(p.description == "checkpoint 'job': pid 812: fd 7: inotify\\x0aqueue; close it")
}
@Test func jsonEscapes() {
    let j: JSON = ["name": "a\"b\\\n\u{1}", "list": [1, nil_, true], "empty": []]
    #expect(j.rendered() == "{\n  \"name\": \"a\\\"b\\\\\\n\\u0001\",\n  \"list\": [\n    1,\n    null,\n    true\n  ],\n  \"empty\": []\n}")
}
private let nil_ = JSON.null
@Test func tablesAlign() {
    var t = TextTable([("NAME", .left), ("PID", .right)])
    t.add(["a", "1"]); t.add(["bcdef", "12345"])
    #expect(t.rendered() == "NAME     PID\na          1\nbcdef  12345\n")
}
@Test func numbersInFewCharacters() {
    #expect(sizeText(17) == "17 B" && sizeText(1536) == "1.5 KiB" && sizeText(64 << 20) == "64 MiB")
    #expect(ageText(seconds: 7445) == "2h 4m")
    #expect(signalName(15) == "SIGTERM" && signalName(37) == "SIGRTMIN+3")
    #expect(systemCallName(0) == "read" && systemCallName(334) == "rseq" && systemCallName(435) == "clone3" && systemCallName(334 + 5) == "system call 339")
    #expect(waitStatusWords(9) == "killed by SIGKILL" && waitStatusWords(0x300) == "exited with status 3")
}
