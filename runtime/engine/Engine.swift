import CkptABI
import EngineBoot
import Freestanding
@c(ckpt_start) func start(_ sp: UnsafeMutablePointer<UInt64>) -> Never { ckpt_exit_group(0) }
@c(ckpt_trap) func trap() -> Never { ckpt_exit_group(70) }
// SwiftPM links Swift executables with --defsym main=MODULE_main.
@c(ckptengine_main) func unused(_ c: Int32, _ v: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Int32 { 0 }
