import CkptABI
import PreloadBoot
import Freestanding
func reviseInterruptedCall(_ context: UnsafeMutablePointer<ckpt_ucontext>) {}
