// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// Sockets of the Internet families.
import CkptABI
import EngineBoot
import Freestanding

func makeIPSockets() {}
