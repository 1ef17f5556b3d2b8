import Glibc
import Testing
import CkptUnwind

/// A child that sleeps in a system call is unwound down to main's caller, and goes on.
@Test func aLiveTaskIsUnwound() throws {
    var pid: pid_t = 0
    var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("1"), nil]
    try #require(posix_spawn(&pid, "/bin/sleep", nil, nil, &arguments, environ) == 0)
    usleep(200_000)
    let frames = stack(ofTask: pid, pid: pid)
    #expect(frames.first?.symbol?.contains("nanosleep") == true, "\(frames.map(\.text))")
    #expect(frames.contains { $0.symbol?.contains("libc_start") == true }, "\(frames.map(\.text))")
    var status: Int32 = -1
    #expect(waitpid(pid, &status, 0) == pid && status == 0)
}

@Test func aTaskThatIsGoneHasNoStack() { #expect(stack(ofTask: 1 << 22 - 1, pid: 1 << 22 - 1) == []) }
