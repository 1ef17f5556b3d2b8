import CkptABI
import PreloadBoot
import Freestanding
@c(ckpt_trap) func trap() -> Never { ckpt_exit_group(70) }
