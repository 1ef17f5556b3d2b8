# Called by tools/bench: measures, prints a table of ratios, and draws it.  Nothing here passes or fails: a target stands beside its figure.
import argparse, json, os, resource, shutil, signal, statistics, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
CORES = os.cpu_count()

class Sample(list):
    """Times of one thing, in seconds."""
    @property
    def median(self): return statistics.median(self)
    def __str__(self):
        if not self: return "-"
        unit, scale = ("ms", 1e3) if self.median < 10 else ("s", 1)
        return "%.*f %s [%.*f-%.*f]" % (1 if unit == "ms" else 2, self.median * scale, unit, 1, min(self) * scale, 1, max(self) * scale)

class Program:
    """tools/bench.c in one of its modes, in a folder of its own."""
    def __init__(self, bench, mode, argument, *more, session=True, disk=False):
        # Its own files lie on the disk: of those in /dev/shm a statefile holds the contents, too.
        self.bench, self.folder = bench, tempfile.mkdtemp(prefix="ckpt-bench-", dir=bench.disk)
        self.name = os.path.basename(self.folder)
        self.file = os.path.join(bench.disk if disk else bench.memory, self.name + ".ckpt")
        argv = [bench.program, mode, str(argument), self.folder] + [str(m) for m in more]
        self.process = spawn(([bench.build + "/ckrun", "--name", self.name, "--"] if session else []) + argv, self.folder)
        wait_until(lambda: self.state()[0] > 0)
        time.sleep(0.1)
    def state(self):
        """(time now, longest standstill, when it last went on, time of a fork, steps)"""
        try:
            with open(self.folder + "/state", "rb") as f: data = f.read(40)
        except OSError: data = b""
        return struct.unpack("ddddQ", data) if len(data) == 40 else (0, 0, 0, 0, 0)
    def ask(self, word):
        path = os.path.join(self.folder, word)
        open(path, "w").close()
        wait_until(lambda: not os.path.exists(path))
        time.sleep(0.02)
        return self.state()
    def fork(self): return self.ask("fork")[3]
    def checkpoint(self, *options):
        """(how long it stood still, time of the command, its phases)"""
        self.ask("reset")
        start = time.monotonic()
        r = subprocess.run([self.bench.build + "/ckptctl", "checkpoint", self.name, "-o", self.file, "--timing", *options], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        took = time.monotonic() - start
        if r.returncode: raise Missing("ckptctl checkpoint: " + r.stderr.strip())
        time.sleep(0.05)
        return self.state()[1], took
    def restart(self, *options):
        """Time from executing the file to the program's first step."""
        self.end()
        before = self.state()[2]
        start = time.time()
        self.process = spawn([self.file, *options], self.folder)
        if not wait_until(lambda: self.state()[2] > max(before, start), 60): raise Missing("the restarted program does not run")
        return self.state()[2] - start
    def end(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):       # restarted trees have groups of their own
            try:
                if os.readlink("/proc/%s/cwd" % pid).startswith(self.folder): os.kill(int(pid), signal.SIGKILL)
            except OSError: pass
        self.process.kill(); self.process.wait()
        time.sleep(0.02)
    def __enter__(self): return self
    def __exit__(self, *_):
        self.end()
        if os.path.exists(self.file): os.unlink(self.file)
        shutil.rmtree(self.folder, ignore_errors=True)

class Missing(Exception): pass

def spawn(argv, folder): return subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
def wait_until(condition, limit=300):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition(): return True
        time.sleep(0.001)
    return False
def timed(argv, **more):
    start = time.monotonic()
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, **more)
    if r.returncode: raise Missing("%s: exit status %d: %s" % (argv[0], r.returncode, (r.stdout + r.stderr).decode(errors="replace").strip()[-300:]))
    return time.monotonic() - start

class Bench:
    def __init__(self, build, options):
        self.build, self.options, self.runs = build, options, options.runs
        self.memory, self.disk, self.rows = "/dev/shm", os.path.abspath(os.path.join(HERE, "..", ".build")), []
        self.scratch = tempfile.mkdtemp(prefix="ckpt-bench-")
        os.chmod(self.scratch, 0o755)
        self.program = self.scratch + "/bench"
        subprocess.run(["gcc", "-O2", "-pthread", "-o", self.program, HERE + "/bench.c"], check=True)
    def sample(self, measure): return Sample(measure() for _ in range(self.runs))
    def inner(self, *argv): return Sample(float(subprocess.run([self.program, *map(str, argv)], check=True, capture_output=True, text=True).stdout) for _ in range(self.runs))
    def row(self, figure, ours, reference, beside, target, ratio=None):
        ratio = ratio if ratio is not None else (ours.median / reference.median if ours and reference else None)
        self.rows.append({"figure": figure, "ours": list(ours), "reference": list(reference or []), "beside": beside, "target": target, "ratio": ratio})
        print("| %s | %s | %s | %s | %s | %s |" % (figure, ours, beside, reference if reference else "-", "-" if ratio is None else "%.2f" % ratio, target), flush=True)

    # Figures, in the order of the table.

    def pause(self):
        for pages in ("small", "huge"):
            for mib in self.options.sizes:
                with Program(self, "hold", mib, pages) as p:
                    fork, ours = self.sample(p.fork), self.sample(lambda: p.checkpoint()[0])
                    self.row("pause, %s MiB, %s pages" % (mib, "2 MiB" if pages == "huge" else "4 KiB"), ours, fork, "fork of it", "<= 1.5" if pages == "small" else "<= 5 ms at 8 GiB")
        for mib in self.options.sizes:
            steps = 7500        # a second, about: the program writes to a twentieth of its memory in that time
            with Program(self, "hold", mib, "small", max(1, mib * 256 // 20 // steps)) as p:
                whole, early = self.sample(lambda: p.checkpoint()[0]), self.sample(lambda: p.checkpoint("--pre-copy")[0])
                self.row("pause, %s MiB, a twentieth written each second, --pre-copy" % mib, early, whole, "without", "<= 0.2")
        if not shutil.which("criu") or os.geteuid(): return
        with Program(self, "hold", 1024, "small") as p: ours = self.sample(lambda: p.checkpoint()[0])
        with Program(self, "hold", 1024, "small", session=False) as p:
            def freeze():
                shutil.rmtree(p.folder + "/images", ignore_errors=True); os.mkdir(p.folder + "/images"); p.ask("reset")
                timed(["criu", "dump", "-t", str(p.process.pid), "-D", p.folder + "/images", "--leave-running", "-v1"])
                time.sleep(0.05)
                return p.state()[1]
            self.row("pause, 1024 MiB", ours, self.sample(freeze), "criu dump", "<= 0.05")

    def trees(self):
        with Program(self, "processes", 1) as p: one = self.sample(lambda: p.checkpoint()[0])
        for mode, count, target in (("processes", 100, "<= 50 ms more"), ("threads", 500, "<= 30 ms more")):
            with Program(self, mode, count) as p: self.row("pause, %d %s" % (count, mode), self.sample(lambda: p.checkpoint()[0]), one, "with one", target)
        with Program(self, "processes", 100) as p:
            p.checkpoint()
            self.row("restart, 100 processes", self.sample(p.restart), None, "", "<= 100 ms")

    def checkpoint(self):
        for place, disk, sync in (("tmpfs", False, "none"), ("disk", True, "fsync")):
            mib = min(1024, max(self.options.sizes))
            with Program(self, "hold", mib, "small", disk=disk) as p:
                def write():
                    path = p.file + ".reference"
                    seconds = float(subprocess.run([self.program, "write", str(mib), path, sync], check=True, capture_output=True, text=True).stdout)
                    os.unlink(path)
                    return seconds
                def commit():
                    if os.path.exists(p.file): os.unlink(p.file)
                    return p.checkpoint()[1]
                reference, ours = self.sample(write), self.sample(commit)
                self.row("rate of a checkpoint of %d MiB, %s" % (mib, place), ours, reference, "parallel pwrite", ">= 0.9", reference.median / ours.median)
        os.sync()           # what comes next waits for no disk
        with Program(self, "sparse", 640) as p:
            p.checkpoint()
            stored, touched = os.stat(p.file).st_blocks * 512, 64 << 20
            with Program(self, "sparse", 0) as q:
                q.checkpoint()
                stored -= os.stat(q.file).st_blocks * 512
            self.row("size, 90%% zero or untouched (%.1f MiB)" % (stored / 1048576), Sample(), None, "what is touched and not zero", "<= 1.02", stored / touched)

    def restart(self):
        with Program(self, "processes", 1) as p:
            p.checkpoint()
            empty = self.sample(p.restart)
            self.row("restart, one small process", empty, None, "", "<= 10 ms")
        for mib in self.options.sizes:
            for pages in ("small", "huge"):
                with Program(self, "hold", mib, pages) as p:
                    p.checkpoint()
                    reference, ours = self.inner("read", mib, p.file, "huge"), self.sample(p.restart)
                    figure = "rate of a restart, %d MiB, %s pages" % (mib, "2 MiB" if pages == "huge" else "4 KiB")
                    # Memory that its program forbids huge pages is restored without them.
                    if pages == "small":
                        same = self.inner("read", mib, p.file, "small")
                        self.row(figure, ours, same, "parallel read into such pages", ">= 0.9", same.median / ours.median)
                        self.row(figure, ours, reference, "parallel read into 2 MiB pages", "", reference.median / ours.median)
                    else: self.row(figure, ours, reference, "parallel read", ">= 0.9", reference.median / ours.median)
                    if self.has("--lazy"):
                        self.row("lazy restart, %d MiB, %s pages" % (mib, pages), self.sample(lambda: p.restart("--lazy")), empty, "one small process", "<= 15 ms more")
    def has(self, option):
        with Program(self, "processes", 1) as p:
            p.checkpoint()
            return option in subprocess.run([p.file, "--help"], capture_output=True, text=True).stdout

    def application(self):
        with Program(self, "hold", 1024, "huge", 64) as p:
            def steps(seconds):
                before = p.state()[4]; time.sleep(seconds); return (p.state()[4] - before) / seconds
            undisturbed = Sample(1 / steps(2) for _ in range(self.runs))
            after = []
            for _ in range(3):
                p.checkpoint(); after.append(1 / steps(10))
            self.row("its own speed in the 10 s after a checkpoint (time of a step)", Sample(after), undisturbed, "undisturbed", "reported")

    def session(self):
        ckrun = self.build + "/ckrun"
        plain, ours = self.sample(lambda: timed(["/bin/true"])), self.sample(lambda: timed([ckrun, "/bin/true"]))
        self.row("launch of /bin/true", ours, plain, "without ckrun", "<= 3 ms more")
        for kind, count, target in (("exec", 500, "<= 1.25"), ("open", 2_000_000, "<= 1.01"), ("thread", 20_000, "<= 1.01"), ("malloc", 20_000_000, "<= 1.01"), ("cpu", 300_000_000, "<= 1.005")):
            without, within = Sample(), Sample()
            for _ in range(self.runs):              # alternating: the machine's mood is the same for both
                for sample, prefix in ((without, []), (within, [ckrun, "--"])):
                    sample.append(float(subprocess.run(prefix + [self.program, "loop", kind, str(count)], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout))
            self.row("a loop of %s, in a session" % kind, within, without, "outside", target)

    def warm(self):
        code, folder = self.scratch + "/warm.py", tempfile.mkdtemp(prefix="ckpt-bench-", dir=self.memory)
        wait, up, statefile = folder + "/wait", folder + "/up", folder + "/warm.ckpt"
        with open(code, "w") as f:
            f.write("import sys, os, time\nimport numpy\nimport " + ", ".join(MODULES) + "\n"
                    "while os.path.exists(%r): time.sleep(0.0002)\nos.mkdir(%r)\n" % (wait, up))
        def until_up(*argv):
            """Until all is imported and the program goes on; its end is not counted."""
            start = time.monotonic()
            job = spawn(argv, folder)
            while not os.path.exists(up):
                if job.poll() is not None and not os.path.exists(up): raise Missing("%s: exit status %d" % (argv, job.returncode))
                time.sleep(0.0002)
            seconds = time.monotonic() - start
            job.wait()
            os.rmdir(up)
            return seconds
        cold = self.sample(lambda: until_up("/usr/bin/python3", code))
        open(wait, "w").close()
        name = os.path.basename(folder)
        job = spawn([self.build + "/ckrun", "--name", name, "--", "/usr/bin/python3", code], folder)
        time.sleep(3)
        timed([self.build + "/ckptctl", "checkpoint", name, "-o", statefile, "--kill"])
        job.wait()
        os.unlink(wait)
        self.row("warm start, python3 with numpy and 200 modules", self.sample(lambda: until_up(statefile)), cold, "cold start", "<= 0.2")
        if self.has("--lazy"): self.row("the same, --lazy", self.sample(lambda: until_up(statefile, "--lazy")), cold, "cold start", "<= 0.05")
        if self.has("--warm"):
            timed([self.build + "/ckptctl", "warm", statefile])
            self.row("the same, from a template", self.sample(lambda: until_up(statefile, "--warm")), cold, "cold start", "<= 0.05")
            timed([self.build + "/ckptctl", "warm", "--drop", statefile])
        shutil.rmtree(folder, ignore_errors=True)

    def growth(self):
        """Each thing a hundredfold: what is linear stays at about 100."""
        for mode, few, many in (("processes", 10, 1000), ("threads", 20, 2000), ("mappings", 600, 60000), ("descriptors", 200, min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500))):
            try:
                with Program(self, mode, few) as p:
                    pause_few = self.sample(lambda: p.checkpoint()[0]); restart_few = self.sample(p.restart)
                with Program(self, mode, many) as p:
                    pause, commit, restart = Sample(), Sample(), Sample()
                    for _ in range(min(self.runs, 3)):
                        a, b = p.checkpoint(); pause.append(a); commit.append(b)
                    for _ in range(min(self.runs, 3)): restart.append(p.restart())
                self.row("pause, %d %s" % (many, mode), pause, pause_few, "%d" % few, "linear: <= 100")
                self.row("checkpoint, %d %s" % (many, mode), commit, None, "", "")
                self.row("restart, %d %s" % (many, mode), restart, restart_few, "%d" % few, "linear: <= 100")
            except Missing as e: print("bench: %d %s: %s" % (many, mode, e), file=sys.stderr)

    def run(self):
        figures = ["pause", "trees", "checkpoint", "restart", "application", "session", "warm", "growth"]
        print("%d cores, %d runs each: median [least-most]\n\n| figure | ours | reference | its time | ratio | target |\n|---|---|---|---|---|---|" % (CORES, self.runs))
        for figure in figures:
            if self.options.only and figure not in self.options.only: continue
            try: getattr(self, figure)()
            except Missing as e: print("bench: %s: %s" % (figure, e), file=sys.stderr)
        shutil.rmtree(self.scratch, ignore_errors=True)

MODULES = """abc argparse array ast asyncio base64 bdb binascii bisect bz2 calendar cgi cmath cmd code codecs codeop collections colorsys compileall concurrent.futures configparser
contextlib contextvars copy cProfile csv ctypes curses dataclasses datetime dbm decimal difflib dis doctest email email.mime.text enum errno faulthandler fcntl filecmp fileinput fnmatch fractions
ftplib functools gc getopt getpass gettext glob graphlib grp gzip hashlib heapq hmac html html.parser http.client http.cookiejar http.server imaplib importlib.metadata inspect io ipaddress itertools
json keyword linecache locale logging logging.handlers lzma mailbox marshal math mimetypes mmap modulefinder multiprocessing multiprocessing.pool netrc numbers operator optparse pathlib pdb pickle
pickletools pkgutil platform plistlib poplib posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc queue quopri random re readline reprlib resource sched secrets select selectors shelve
shlex shutil signal smtplib socket socketserver sqlite3 ssl stat statistics string stringprep struct subprocess symtable sysconfig syslog tabnanny tarfile tempfile termios textwrap threading timeit
token tokenize trace traceback tracemalloc tty types typing unicodedata unittest unittest.mock urllib.request urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref.simple_server
xml.dom.minidom xml.etree.ElementTree xml.sax xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo""".split()

def draw(rows, path):
    try:
        import matplotlib
        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        print("bench: python3-matplotlib is missing: no drawing", file=sys.stderr)
        return
    rows = [r for r in rows if r["ours"] and r["reference"]][::-1]
    if not rows: return
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(rows) + 1.2))
    for y, r in enumerate(rows):
        ours, reference = r["ours"], statistics.median(r["reference"])
        axes.barh(y, statistics.median(ours) / reference, color="#4878a8", height=0.6)
        axes.plot([min(ours) / reference, max(ours) / reference], [y, y], color="black", linewidth=1)
    axes.axvline(1, color="#a84848", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), ["%s / %s" % (r["figure"], r["beside"]) for r in rows], fontsize=7)
    axes.set_xlabel("time, as a multiple of the reference's (median; line: least to most)")
    figure.tight_layout()
    figure.savefig(path)

def main():
    parser = argparse.ArgumentParser(prog="tools/bench")
    parser.add_argument("build")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three runs, small sizes")
    parser.add_argument("--sizes", type=lambda s: [int(n) for n in s.split(",")], default=[64, 512, 1024, 4096])
    parser.add_argument("--only", type=lambda s: s.split(","), help="pause, trees, checkpoint, restart, application, session, warm, growth")
    options = parser.parse_args()
    if options.quick: options.runs, options.sizes = 3, [64, 512]
    bench = Bench(options.build, options)
    bench.run()
    figures = os.path.join(HERE, "..", "figures")
    os.makedirs(figures, exist_ok=True)
    with open(figures + "/bench.json", "w") as f: json.dump({"cores": CORES, "runs": options.runs, "rows": bench.rows}, f, indent=1)
    draw(bench.rows, figures + "/bench.svg")

main()
