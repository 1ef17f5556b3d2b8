# multiprocessing: a pool, a queue and a pipe between processes.
import multiprocessing, sys

def work(n):
    x = n
    for i in range(20000):
        x = (x * 1103515245 + 12345 + i) % 2147483648
    return n, x

def consumer(queue, connection):
    total = 0
    while True:
        item = queue.get()
        if item is None:
            break
        total += len(item)
    connection.send(("total", total))
    connection.close()

if __name__ == "__main__":
    count = int(sys.argv[1])
    queue = multiprocessing.Queue()
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=consumer, args=(queue, theirs))
    process.start()
    theirs.close()
    lock, value = multiprocessing.Lock(), multiprocessing.Value("i", 0)
    with multiprocessing.Pool(3) as pool:
        for n, x in pool.imap(work, range(count), chunksize=4):
            queue.put("x" * (x % 3000))
            with lock:
                value.value += 1
            if n % 50 == 0:
                print(n, x, value.value, flush=True)
    queue.put(None)
    print(ours.recv())
    process.join()
    print("exit", process.exitcode)
