# numpy in several threads: every step's results are printed, the last array is written.
import hashlib, queue, sys, threading
import numpy as np

steps = int(sys.argv[1])
work, done = [queue.Queue() for _ in range(4)], queue.Queue()

def body(number):
    state = np.random.RandomState(number)
    grid = state.randint(0, 1000, (160, 160)).astype(np.int64)
    field = np.arange(40000, dtype=np.float64) * (number + 1)
    while True:
        step = work[number].get()
        if step is None:
            break
        grid = (grid @ grid.T) % 10007 + step
        product = np.floor(field[:14400].reshape(120, 120) % 50) @ np.ones((120, 120))      # exact in doubles
        field = np.sqrt(field * field + 1.0)
        scratch = np.zeros(200000 + 1000 * (step % 7))
        assert not scratch.any()
        scratch += step
        done.put((number, step, int(grid.sum()), float(product.sum()), float(scratch.sum())))
    np.save("grid-%d.npy" % number, grid)
    done.put((number, -1, hashlib.sha256(field.tobytes()).hexdigest(), 0, 0))

threads = [threading.Thread(target=body, args=(n,)) for n in range(4)]
for t in threads:
    t.start()
for step in range(steps):
    for q in work:
        q.put(step)
    print(sorted(done.get() for _ in threads), flush=True)
for q in work:
    q.put(None)
for t in threads:
    t.join()
print(sorted(done.get() for _ in threads))
