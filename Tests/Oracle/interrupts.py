# ^C, ^Z and ^\ typed behind so much that the terminal has not looked at them when the call returns; the program on it counts what reaches it.
import signal, sys, termios
from terminal import Terminal

if sys.argv[1] == "counted":
    settings = termios.tcgetattr(0)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, settings)
    signals = {signal.SIGINT: 0, signal.SIGQUIT: 0, signal.SIGTSTP: 0}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    print("up", flush=True)
    while True:
        which = signal.sigwait(signals)
        signals[which] += 1
        print("%s %d" % (signal.Signals(which).name, signals[which]), flush=True)
        if which == signal.SIGQUIT and signals[which] == int(sys.argv[2]):
            sys.exit(9)

rounds = int(sys.argv[1])
terminal = Terminal([sys.executable, "-B", sys.argv[0], "counted", str(rounds)])
terminal.until("up\r\n")
for i in range(1, rounds + 1):
    for key, name in ("\x03", "SIGINT"), ("\x1a", "SIGTSTP"), ("\x1c", "SIGQUIT"):
        terminal.type("x" * 30000 + key)
        terminal.until("%s %d\r\n" % (name, i))
    if i % 10 == 0:
        print(i, flush=True)
print("ended with", terminal.close()[0])
