# Called by tools/bench: measures ckpt, gcore and criu on the same program, and prints a table of times and ratios.
import os, shutil, signal, struct, subprocess, sys, tempfile, time

build, sizes = sys.argv[1], [int(a) for a in sys.argv[2:]] or [64, 512, 2048]
PROGRAM = r"""
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
// Holds memory, and writes down the longest time for which it stood still.
int main(int argc, char **argv) {
    size_t n = strtoul(argv[1], NULL, 10) << 20;
    uint64_t *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), x = 88172645463325252ull;
    for (size_t i = 0; i < n / 8; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; m[i] = x; }
    int fd = open("state", O_RDWR | O_CREAT, 0600);
    double last = 0, worst = 0;
    for (uint64_t k = 0;; k++) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        double now = t.tv_sec + t.tv_nsec / 1e9;
        if (last && now - last > worst) worst = now - last;
        last = now;
        double out[2] = { now, worst };
        pwrite(fd, out, 16, 0);
        if (access("reset", F_OK) == 0) { unlink("reset"); worst = 0; }
        struct timespec pause = { 0, 200000 };
        nanosleep(&pause, NULL);
    }
}
"""

def state(folder):
    with open(folder + "/state", "rb") as f:
        data = f.read(16)
    return struct.unpack("dd", data) if len(data) == 16 else (0, 0)

def wait_until(condition, limit=120):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.0005)
    return False

def alive(folder):
    first = state(folder)[0]
    return lambda: state(folder)[0] > first

def reset(folder):
    open(folder + "/reset", "w").close()
    wait_until(lambda: not os.path.exists(folder + "/reset"))
    time.sleep(0.05)

def spawn(argv, folder):
    return subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

def timed(argv, folder):
    start = time.monotonic()
    result = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return time.monotonic() - start, result

def size(path):
    if os.path.isdir(path):
        return sum(size(os.path.join(path, f)) for f in os.listdir(path))
    return os.stat(path).st_blocks * 512

def end(process):
    process.kill()
    process.wait()

def end_all(folder):
    """Whatever runs in the folder: the restarted trees have groups of their own."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/cwd" % pid).startswith(folder):
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass

def measure_ckpt(mib, folder):
    row, name = {}, os.path.basename(folder)
    p = spawn([build + "/ckrun", "--name", name, "--", folder + "/program", str(mib)], folder)
    wait_until(lambda: os.path.exists(folder + "/state") and state(folder)[0] > 0)
    reset(folder)
    row["checkpoint"], r = timed([build + "/ckptctl", "checkpoint", name, "-o", folder + "/bench.ckpt"], folder)
    if r.returncode:
        sys.exit("bench: ckptctl checkpoint: " + r.stdout.decode())
    time.sleep(0.05)
    row["pause"] = state(folder)[1]
    row["size"] = size(folder + "/bench.ckpt")
    end(p)
    ready = alive(folder)
    start = time.monotonic()
    q = spawn([folder + "/bench.ckpt"], folder)
    if wait_until(ready):
        row["restart"] = time.monotonic() - start
    end_all(folder)
    q.wait()
    return row

def measure_gcore(mib, folder):
    if not shutil.which("gcore"):
        return {}
    p = spawn([folder + "/program", str(mib)], folder)
    wait_until(lambda: os.path.exists(folder + "/state") and state(folder)[0] > 0)
    reset(folder)
    seconds, r = timed(["gcore", "-o", folder + "/core", str(p.pid)], folder)
    time.sleep(0.05)
    row = {"checkpoint": seconds, "pause": state(folder)[1], "size": size(folder + "/core.%d" % p.pid)} if r.returncode == 0 else {}
    end(p)
    return row

def measure_criu(mib, folder):
    if not shutil.which("criu") or os.geteuid():
        return {}
    p = spawn([folder + "/program", str(mib)], folder)
    wait_until(lambda: os.path.exists(folder + "/state") and state(folder)[0] > 0)
    reset(folder)
    os.mkdir(folder + "/images")
    seconds, r = timed(["criu", "dump", "-t", str(p.pid), "-D", folder + "/images", "--leave-running", "-v1"], folder)
    time.sleep(0.05)
    if r.returncode:
        print("bench: criu cannot dump here:", (r.stdout.decode().strip().splitlines() or ["no reason given"])[0], file=sys.stderr)
        end(p)
        return {}
    row = {"checkpoint": seconds, "pause": state(folder)[1], "size": size(folder + "/images")}
    end(p)
    ready = alive(folder)
    start = time.monotonic()
    q = spawn(["criu", "restore", "-D", folder + "/images", "-v0"], folder)
    if wait_until(ready, 60):
        row["restart"] = time.monotonic() - start
    end_all(folder)
    q.wait()
    return row

def launch():
    def best(argv):
        times = []
        for _ in range(60):
            start = time.monotonic()
            subprocess.run(argv)
            times.append(time.monotonic() - start)
        return sorted(times)[len(times) // 2]
    plain, ours = best(["/bin/true"]), best([build + "/ckrun", "/bin/true"])
    print("launch: /bin/true %.2f ms, under ckrun %.2f ms: %.2f ms more" % (plain * 1e3, ours * 1e3, (ours - plain) * 1e3))

def main():
    launch()
    print("%9s %-6s %14s %14s %14s %12s" % ("MiB", "", "pause ms", "checkpoint ms", "restart ms", "file MiB"))
    for mib in sizes:
        rows = {}
        for name, measure in (("ckpt", measure_ckpt), ("gcore", measure_gcore), ("criu", measure_criu)):
            folder = tempfile.mkdtemp(prefix="ckpt-bench-")
            with open(folder + "/program.c", "w") as f:
                f.write(PROGRAM)
            subprocess.run(["gcc", "-O2", "-o", folder + "/program", folder + "/program.c"], check=True)
            try:
                rows[name] = measure(mib, folder)
            finally:
                end_all(folder)
                shutil.rmtree(folder, ignore_errors=True)
        for name, row in rows.items():
            cells = []
            for key, scale in (("pause", 1e3), ("checkpoint", 1e3), ("restart", 1e3), ("size", 1 / 1048576)):
                value, ours = row.get(key), rows["ckpt"].get(key)
                cells.append("-" if value is None else "%.1f%s" % (value * scale, "" if name == "ckpt" or not ours else " (%.1fx)" % (value / ours)))
            print("%9s %-6s %14s %14s %14s %12s" % ((mib, name) + tuple(cells)))

main()
