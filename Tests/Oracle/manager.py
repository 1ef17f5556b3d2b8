# Processes that share what multiprocessing has to share: a manager's objects over a Unix socket, queues, a block of shared memory, locks,
# semaphores, events and a barrier (named semaphores that have lost their names).
import hashlib, multiprocessing as mp, sys
from multiprocessing import shared_memory

def work(number, tasks, results, lock, slots, barrier, name, counts, words, total):
    block = shared_memory.SharedMemory(name)
    numbers = block.buf.cast("Q")
    while (task := tasks.get()) is not None:
        with slots:
            digest = hashlib.sha256(b"%d" % task).hexdigest()
        with lock:
            numbers[task % len(numbers)] += task
            total.value += 1
        with counts.get_lock():
            counts[task % 7] += 1
        if task % 25 == 0:
            words[task] = digest[:8]
        results.put((task, digest))
    barrier.wait()
    numbers.release()
    block.close()

if __name__ == "__main__":
    rounds, workers = int(sys.argv[1]), 3
    with mp.Manager() as manager:
        block = shared_memory.SharedMemory(create=True, size=4096)
        tasks, results = mp.Queue(), mp.SimpleQueue()
        lock, slots, barrier, total = mp.Lock(), mp.BoundedSemaphore(2), mp.Barrier(workers + 1), mp.Value("i", 0)
        counts, words, log = mp.Array("i", 7), manager.dict(), manager.list()
        processes = [mp.Process(target=work, args=(i, tasks, results, lock, slots, barrier, block.name, counts, words, total)) for i in range(workers)]
        for p in processes:
            p.start()
        for i in range(rounds):
            for task in range(i * 10, i * 10 + 10):
                tasks.put(task)
            done = sorted(results.get() for _ in range(10))
            log.append(hashlib.sha256(repr(done).encode()).hexdigest()[:12])
            if i % 10 == 9:
                with lock:
                    print(i + 1, total.value, sum(block.buf.cast("Q")), list(counts), len(words), log[-1], flush=True)
        for p in processes:
            tasks.put(None)
        barrier.wait()
        for p in processes:
            p.join()
        print([p.exitcode for p in processes], sorted(words.items())[-3:], len(log))
        block.unlink()
