# redis-server and its clients, each answer checked.  With "always" every write is on the disk before it is answered, and what a second server
# reads from there in the end is what the first one held.
import os, socket, subprocess, sys, time

rounds, appends = int(sys.argv[1]), sys.argv[2]
folder = ".redis"

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def start(port):
    # What redis-tools calls redis-check-rdb is the server too, by the name that it is given.
    return subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", "server.sock", "--dir", folder, "--save", "",
        "--appendonly", "no" if appends == "no" else "yes", "--appendfsync", "always", "--enable-debug-command", "local", "--daemonize", "no"],
        executable="/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL)

class Client:
    def __init__(self, family, address):
        self.socket = socket.socket(family)
        while self.socket.connect_ex(address):
            time.sleep(0.01)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        self.socket.sendall(b"".join(b"*%d\r\n" % len(c) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(lambda w: str(w).encode(), c)) for c in commands))

    def answer(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return rest.decode()

    def ask(self, *words):
        self.send(words)
        answer = self.answer()
        while answer is not None and str(answer).startswith("LOADING"):
            time.sleep(0.01)
            self.send(words)
            answer = self.answer()
        return answer

def check(seen, expected):
    if seen != expected:
        sys.exit("seen %r, not %r" % (seen, expected))

os.mkdir(folder)
port = free_port()
server = start(port)
tcp, unix = Client(socket.AF_INET, ("127.0.0.1", port)), Client(socket.AF_UNIX, folder + "/server.sock")
listener = Client(socket.AF_INET, ("127.0.0.1", port))
check(listener.ask("SUBSCRIBE", "news"), ["subscribe", "news", 1])
for i in range(rounds):
    tcp.send(*[("INCR", "counter")] * 40, ("RPUSH", "list", "value %d" % i), ("HSET", "hash", "field %d" % (i % 1000), i), ("PUBLISH", "news", "round %d" % i))
    unix.send(("MULTI",), ("INCRBY", "sum", i), ("ZADD", "scores", i * 7 % 101, "member %d" % (i % 500)), ("SET", "blob", "x" * (i * 97 % 30000)), ("EXEC",))
    check([tcp.answer() for _ in range(43)], list(range(i * 40 + 1, i * 40 + 41)) + [i + 1, 0 if i >= 1000 else 1, 1])
    check([unix.answer() for _ in range(5)], ["OK", "QUEUED", "QUEUED", "QUEUED", [i * (i + 1) // 2, 0 if i >= 500 else 1, "OK"]])
    check(listener.answer(), ["message", "news", "round %d" % i])
    if i % 100 == 99:
        print(i + 1, "rounds", tcp.ask("DEBUG", "DIGEST"), flush=True)
digest = tcp.ask("DEBUG", "DIGEST")
server.kill()
print("the server ended with", server.wait())
if appends != "no":
    server = start(port)
    again = Client(socket.AF_UNIX, folder + "/server.sock")
    print("keys:", again.ask("DBSIZE"))      # waits until it has read everything; DEBUG does not
    print("read again:", again.ask("DEBUG", "DIGEST") == digest)
    server.terminate()
    print("the server ended with", server.wait())
