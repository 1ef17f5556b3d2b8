import CkptABI
import PreloadBoot
import Freestanding
func interposeStart(_ envp: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) {}
func reviseInterruptedCall(_ context: UnsafeMutablePointer<ckpt_ucontext>) {}
func deliverApplicationSIGCKPT(_ info: UnsafeMutablePointer<ckpt_siginfo>, _ context: UnsafeMutablePointer<ckpt_ucontext>) {}
