# For gdb: `source tools/symbols.py`, then `ckpt-symbols [FOLDER]` in a process that runs the engine: loads its names and lines from the build.
# A statefile holds of the engine what runs, and nobody finds the rest by it.  (The runtime's names are in libckpt.so, where gdb looks by itself.)
import os
import struct
import gdb

class Symbols(gdb.Command):
    """ckpt-symbols [FOLDER]: loads the symbols of the engine that this process runs, from ckptengine in FOLDER (default: .build/release beside the script)."""

    def __init__(self):
        super().__init__("ckpt-symbols", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument, from_tty):
        folder = os.path.expanduser(argument.strip()) or os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(SCRIPT))), ".build", "release")
        path = os.path.join(folder, "ckptengine")
        pid = gdb.selected_inferior().pid
        if pid == 0: raise gdb.GdbError("ckpt-symbols: no process; attach to one (gdb -p PID)")
        try:
            with open(path, "rb") as f: image = f.read()
        except OSError as e: raise gdb.GdbError("ckpt-symbols: %s: %s; build it, or name its folder" % (path, e.strerror))
        base = self.base(pid, self.identity(image))
        gdb.execute("add-symbol-file %s -o 0x%x" % (path, base), from_tty)

    def base(self, pid, identity):
        """Where the image begins: as it was executed, or where it has moved to make room for the program."""
        with open("/proc/%d/maps" % pid) as maps:
            for line in maps:
                start = int(line.split("-")[0], 16)
                try: page = bytes(gdb.selected_inferior().read_memory(start, 4096))
                except gdb.MemoryError: continue
                if page.startswith(b"\x7fELF") and identity in page: return start
        raise gdb.GdbError("ckpt-symbols: process %d does not run this engine (build-id %s)" % (pid, identity.hex()))

    def identity(self, image):
        """The description of the note NT_GNU_BUILD_ID."""
        at = image.index(b"\x03\0\0\0GNU\0")         # its type and name; before them stands the description's size
        return image[at + 8:at + 8 + struct.unpack_from("<I", image, at - 4)[0]]

SCRIPT = __file__
Symbols()
