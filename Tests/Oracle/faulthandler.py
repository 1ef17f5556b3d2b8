# Python with handlers for fatal signals on an alternate stack, a watchdog thread, and children.
import faulthandler, signal, subprocess, threading, time
faulthandler.enable()
faulthandler.register(signal.SIGUSR1)
faulthandler.dump_traceback_later(1000)
def work(k, out):
    h, kept = k, []
    for i in range(200000):
        h = (h * 1103515245 + 12345) & 0x7fffffff
        if i % 7 == 0: kept.append(str(h))
        if i % 7000 == 0: kept.clear()
    out[k] = (h, len(kept))
for r in range(4):
    out = {}
    threads = [threading.Thread(target=work, args=(k + r, out)) for k in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(r, sorted(out.items()), subprocess.run(["/bin/echo", "child", str(r)], capture_output=True).stdout, flush=True)
    time.sleep(0.05)
