import Testing
import CkptABI
import CkptReport
import CkptSystem

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
@Test func `any bytes are a name and come back, and UTF-8 is the text that it is`() {
    for text in ["", "plain", "grüße", "日本", "\u{10fffe}"] { #expect(String(name: Array(text.utf8)).nameBytes == Array(text.utf8)) }
    #expect(String(name: Array("grüße".utf8)) == "grüße")
    #expect(printable(String(name: [99, 0xe9])) == "c\\xe9")
    for _ in 0 ..< 20_000 {
        // Mostly bytes that begin or continue a character.
        let bytes = (0 ..< Int.random(in: 0 ... 9)).map { _ in [UInt8.random(in: 1 ... 255), 0xf4, 0x8f, 0xbc, 0x80, 0xc3, 0xe9, 97].randomElement()! }
        if String(name: bytes).nameBytes != bytes { Issue.record("\(bytes)") }
    }
}

@Test func `a task's failure has its status and remedy`() {
    func problem(_ code: ckpt_error, _ errno: Int32 = 0) -> Problem {
        var f = ckpt_failure()
        f.code = code.rawValue; f.errno_value = errno; f.pid = 812
        return Problem(f, session: "job")
    }
    #expect(problem(CKPT_ERROR_WRITE, 28).description == "checkpoint 'job': pid 812: writing its memory to the statefile failed: No space left on device; free space, or choose another place with -o")
    #expect(problem(CKPT_ERROR_WRITE, 122).remedy == problem(CKPT_ERROR_WRITE, 28).remedy)
    #expect(problem(CKPT_ERROR_WRITE, 27).remedy?.contains("ulimit -Hf") == true)
    #expect(problem(CKPT_ERROR_WRITE, 5).status == .system && problem(CKPT_ERROR_CLONE).status == .temporary && problem(CKPT_ERROR_TRAP).status == .internal)
    #expect(problem(CKPT_ERROR_APPLICATION).status == .refused && problem(CKPT_ERROR_ARENA).status == .refused)
}
