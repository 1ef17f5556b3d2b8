# A client that is no part of the tree of its redis-server: it counts there, connects anew when the connection breaks, and knows what it was promised.
# Ends when the file `enough` is there.
import os, socket, sys, time

address, acknowledged, breaks = ("127.0.0.1", int(sys.argv[1])), 0, 0

def connect():
    give_up = time.monotonic() + 30
    while True:
        try:
            s = socket.create_connection(address, timeout=30)
            return s, s.makefile("rb")
        except ConnectionError:
            if time.monotonic() > give_up:
                sys.exit("no server")
            time.sleep(0.005)

def ask(words):
    stream[0].sendall(words + b"\r\n")
    line = stream[1].readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError
    return int(line[1:])

def resume():
    """A new connection, and what the server has counted; one that a dying server's queue still took breaks as well."""
    while True:
        stream[:] = connect()
        try:
            return ask(b"INCRBY counter 0")
        except ConnectionError:
            pass

stream = [*connect()]
while not os.path.exists("enough"):
    try:
        if ask(b"INCR counter") != acknowledged + 1:
            sys.exit("doubled or lost after %d" % acknowledged)
        acknowledged += 1
    except ConnectionError:
        value = resume()
        # What was not answered may have been done.
        if value not in (acknowledged, acknowledged + 1):
            sys.exit("the counter is %d, and %d was acknowledged" % (value, acknowledged))
        acknowledged = value
        breaks += 1
        with open("breaks.new", "w") as f:
            f.write(str(breaks))
        os.rename("breaks.new", "breaks")
print("counted", "enough" if acknowledged > 100 else acknowledged, "in spite of", breaks, "breaks")
stream[0].sendall(b"SHUTDOWN NOSAVE\r\n")
