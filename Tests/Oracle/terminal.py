# A terminal as its user has it: the master of a pseudo-terminal, and a program that leads a session on the slave.
import errno, fcntl, os, select, struct, sys, termios

class Terminal:
    def __init__(self, argv, environment={}, rows=24, columns=120):
        self.pid, self.master = os.forkpty()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            # What a checkpoint needs is handed on by the runtime, not by the environment.
            os.execvpe(argv[0], argv, dict(keep, **environment))
        self.unseen = b""

    def type(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.master, data):]

    def until(self, words):
        """What was shown up to and with `words`."""
        words = words.encode()
        while words not in self.unseen:
            if not self.read_more():
                sys.exit("the terminal ended before %r; it showed %r" % (words, self.unseen))
        end = self.unseen.index(words) + len(words)
        seen, self.unseen = self.unseen[:end], self.unseen[end:]
        return seen.decode()

    def read_more(self):
        try:
            data = os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:        # nobody has the slave any more
                raise
            data = b""
        self.unseen += data
        return bool(data)

    def close(self):
        """Reads to the end; the program's exit status and what it showed last."""
        while self.read_more():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), self.unseen.decode()
