# asyncio servers and their clients: a process with a server on TCP and one on a Unix socket, others that are clients of both, with timers,
# tasks, a subprocess and a worker thread.  A client counts what it is answered, and a stream is checked byte by byte.
import asyncio, hashlib, os, socket, sys

async def serve(reader, writer):
    seen = hashlib.sha256()
    while line := await reader.readline():
        word, number = line.split()
        if word == b"bulk":
            data = await reader.readexactly(int(number))
            seen.update(data)
            writer.write(data[::-1])
        elif word == b"later":
            await asyncio.sleep(0.002)
            writer.write(b"later %d\n" % (int(number) + 1))
        else:
            writer.write(b"at once %s %s\n" % (number, seen.hexdigest()[:8].encode()))
        await writer.drain()
    writer.close()

async def client(open_connection, name, rounds):
    reader, writer = await open_connection()
    digest = hashlib.sha256()
    for i in range(rounds):
        data = (b"%s %d " % (name, i)) * (1 + i * 37 % 3000)
        writer.write(b"bulk %d\n" % len(data) + data)
        digest.update(data)
        if await reader.readexactly(len(data)) != data[::-1]:
            return "%s: bulk %d differs" % (name, i)
        writer.write(b"later %d\nnow %d\n" % (i, i))
        if await reader.readline() != b"later %d\n" % (i + 1):
            return "%s: later %d differs" % (name, i)
        if await reader.readline() != b"at once %d %s\n" % (i, digest.hexdigest()[:8].encode()):
            return "%s: now %d differs" % (name, i)
    writer.close()
    await writer.wait_closed()
    return "%s: %d rounds, %s" % (name.decode(), rounds, digest.hexdigest()[:16])

async def clients(port, path, rounds):
    tcp, unix = (lambda: asyncio.open_connection("127.0.0.1", port)), (lambda: asyncio.open_unix_connection(path))
    parts = [client(tcp, b"tcp one", rounds), client(unix, b"unix one", rounds), client(tcp, b"tcp two", rounds)]
    for result in await asyncio.gather(*parts):
        print(result)
    print("thread:", await asyncio.to_thread(lambda: sum(range(1000))))
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "read a; echo got $a; exit 3", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    print("subprocess:", (await process.communicate(b"word\n"))[0], process.returncode)

async def main():
    rounds, path = int(sys.argv[1]), "server.socket"
    servers = await asyncio.start_server(serve, "127.0.0.1", 0), await asyncio.start_unix_server(serve, path)
    port = servers[0].sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, "-B", sys.argv[0], "clients", str(port), path, str(rounds))
    ticks = asyncio.create_task(tick())
    print("clients ended with", await process.wait())
    ticks.cancel()
    for server in servers:
        server.close()
    os.unlink(path)

async def tick():
    while True:
        await asyncio.sleep(0.01)

if sys.argv[1] == "clients":
    asyncio.run(clients(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
else:
    asyncio.run(main())
