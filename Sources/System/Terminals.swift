// What a terminal says of itself (ioctl_tty(2)); nothing here changes one.
import CkptABI
import Glibc

extension File {
    /// The device that /dev/tty stands for in this description; its own for any other terminal.
    public var terminalDevice: UInt64? {
        var device: UInt32 = 0
        return ioctl(number, 0x80045432, &device) == 0 ? UInt64(device) : nil      // TIOCGDEV
    }
    public var termios: ckpt_termios? {
        var t = ckpt_termios()
        return ioctl(number, 0x802c542a, &t) == 0 ? t : nil                         // TCGETS2
    }
    public var windowSize: ckpt_winsize? {
        var s = ckpt_winsize()
        return ioctl(number, 0x5413, &s) == 0 ? s : nil                             // TIOCGWINSZ
    }
}

public enum Terminal {
    /// How wide the terminal behind stderr is; nil: it is none.
    public static var errorColumns: Int? {
        guard isatty(2) == 1 else { return nil }
        var s = ckpt_winsize()
        return ioctl(2, 0x5413, &s) == 0 && s.columns > 0 ? Int(s.columns) : 80        // TIOCGWINSZ
    }
}
