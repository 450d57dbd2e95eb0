#!/usr/bin/env python3
"""Let a processor that nobody here wrote walk second-level page tables, and print what it found.

    run.py IMAGE        an image as image.h defines it; "-" reads it from stdin

EPT images run in Bochs (VMX), NPT images in QEMU's TCG (SVM). On stdout, numbers in hexadecimal but for I and T:

    machine CAPABILITIES PHYSICAL_BITS
    answer I OUTCOME DETAIL ADDRESS       one per query, in order; OUTCOME is a name of OUTCOMES below
    entry T INDEX VALUE                   each entry that is not 0 after the last query
    end

Exit code 77, with a line on stderr, where the emulator or the compiler is missing.
"""
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# From image.h.
IMAGE_MAGIC = 0x314547414D545045
GREETING_MAGIC = 0x315357534E415445
IMAGE_ADDRESS = 0x2000000
DATA_ADDRESS = 0x10000000
ENTRY_END = 2**64 - 1
EPT, NPT = 1, 2
READ, WRITE, FETCH = 0, 1, 2
OUTCOMES = ["ok", "violation", "misconfiguration", "nested_fault", "strange", "lost", "other_exit", "no_entry"]
HEADER = struct.Struct("<QIIQQQQQQQQQ")
PAIR = struct.Struct("<QQ")
TRIPLE = struct.Struct("<QQQ")
PAGE = 4096

SKIP = 77
TIMEOUT_S = float(os.environ.get("GM_EPT_TIMEOUT_S", "300"))
MIB = 1 << 20
CYLINDER = 512 * 63 * 16  # Bochs wants disks of whole ones

SOURCES = ["boot.S", "enter.S", "guest.c", "window.c", "vmx.c", "svm.c", "port.c"]
CFLAGS = ["-m64", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static", "-no-pie",
          "-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-mno-red-zone",
          "-mgeneral-regs-only", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"]

# Emulators get nothing else: Bochs 2.7 reads memory that it has not written, and dies of meson's MALLOC_PERTURB_.
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "TERM": "vt100"}

NO_TERMINAL = "display library 'term' not available"


class Missing(Exception):
    """Something that this machine lacks."""


class Failed(Exception):
    """The emulator or the guest program did not come to its end."""


class Image:
    """What an image says, to make one."""

    def __init__(self, layout, levels):
        self.layout = layout  # EPT or NPT
        self.levels = levels
        self.root = 0
        self.window = 0
        self.tables = []  # lists of 512 entries
        self.frames = []  # (address, size)
        self.queries = []  # (GPA, kind)

    @staticmethod
    def table_address(number):
        return IMAGE_ADDRESS + PAGE * (number + 1)

    def pack(self):
        tables = b"".join(struct.pack("<512Q", *table) for table in self.tables)
        frames = b"".join(PAIR.pack(*frame) for frame in self.frames)
        queries = b"".join(PAIR.pack(*query) for query in self.queries)
        frames_offset = PAGE + len(tables)
        queries_offset = frames_offset + len(frames)
        header = HEADER.pack(IMAGE_MAGIC, self.layout, self.levels, queries_offset + len(queries), self.root, self.window,
                             PAGE, len(self.tables), frames_offset, len(self.frames), queries_offset, len(self.queries))
        return header.ljust(PAGE, b"\0") + tables + frames + queries


class Answers:
    """The stream of the guest program, taken apart."""

    def __init__(self, stream, query_count):
        triples = list(TRIPLE.iter_unpack(stream[:len(stream) // TRIPLE.size * TRIPLE.size]))
        if not triples or triples[0][0] != GREETING_MAGIC:
            raise Failed("the guest program could not start" if triples else "the guest program said nothing")
        _, self.capabilities, self.physical_bits = triples[0]
        self.answers = [(OUTCOMES[outcome], detail, address) for outcome, detail, address in triples[1:1 + query_count]]
        entries = triples[1 + query_count:]
        if not entries or entries[-1][0] != ENTRY_END:
            raise Failed(f"the guest program stopped after {len(self.answers)} of {query_count} answers")
        self.entries = {(table, index): value for table, index, value in entries[:-1]}

    def lines(self):
        yield f"machine {self.capabilities:x} {self.physical_bits:x}"
        for i, (outcome, detail, address) in enumerate(self.answers):
            yield f"answer {i} {outcome} {detail:x} {address:x}"
        for (table, index), value in sorted(self.entries.items()):
            yield f"entry {table} {index} {value:x}"
        yield "end"


def need(program, package):
    path = shutil.which(program)
    if path is None:
        raise Missing(f"{program} is not installed (Debian: {package})")
    return path


def build_guest(folder):
    """The guest program as a ROM of 64 KiB."""
    elf, rom = os.path.join(folder, "guest.elf"), os.path.join(folder, "guest.rom")
    sources = [os.path.join(HERE, "guest", name) for name in SOURCES]
    subprocess.run([need("gcc", "gcc"), *CFLAGS, "-T", os.path.join(HERE, "guest", "guest.ld"), "-o", elf, *sources],
                   check=True)
    subprocess.run([need("objcopy", "binutils"), "-O", "binary", elf, rom], check=True)
    return rom


def ram_mib(image_bytes):
    """RAM up to the end of the last frame; what an emulator makes of more than that costs time."""
    header = HEADER.unpack_from(image_bytes)
    frames = [PAIR.unpack_from(image_bytes, header[8] + PAIR.size * i) for i in range(header[9])]
    end = max([address + size for address, size in frames], default=DATA_ADDRESS)
    return max(512, (end + MIB - 1) // MIB)


# What Debian's Bochs takes if nothing is said.
VGA_ROM = "/usr/share/bochs/VGABIOS-lgpl-latest"
BOCHSRC = """\
config_interface: textconfig
display_library: term
cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0
memory: guest={ram}, host={host}
romimage: file="{rom}"
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path="{image}", cylinders=0
parport1: enabled=1, file="{out}"
log: "{folder}/bochs.log"
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def bochs_command(folder, rom, image, out, ram):
    """Debian's Bochs has the debugger built in, hence the file of its commands: continue."""
    bochs = need("bochs", "bochs bochs-term")
    if not os.path.exists(VGA_ROM):
        raise Missing(f"Bochs lacks {VGA_ROM} (Debian: vgabios)")
    with open(os.path.join(folder, "bochsrc"), "w", encoding="ascii") as file:
        file.write(BOCHSRC.format(folder=folder, rom=rom, image=image, out=out, ram=ram, host=min(ram, 1024)))
    with open(os.path.join(folder, "commands"), "w", encoding="ascii") as file:
        file.write("c\n")
    return [bochs, "-q", "-f", os.path.join(folder, "bochsrc"), "-rc", os.path.join(folder, "commands")]


def qemu_command(rom, image, out, ram):
    """51 physical bits: bit 51 of an entry is reserved, for misconfigurations."""
    return [need("qemu-system-x86_64", "qemu-system-x86"), "-M", "pc", "-accel", "tcg", "-cpu", "max,phys-bits=51",
            "-m", str(ram), "-display", "none", "-nodefaults", "-no-reboot", "-bios", rom,
            "-drive", f"file={image},format=raw,if=ide", "-parallel", f"file:{out}", "-device",
            "isa-debug-exit,iobase=0x8900,iosize=1"]


def drain(terminal, screen):
    """Bochs' terminal display wants a terminal, and stops when nobody reads what it draws."""
    try:
        while data := os.read(terminal, 65536):
            screen.append(data)
    except OSError:
        pass  # the other end was closed


def execute(command, folder):
    """Run an emulator to its end, on a terminal of its own. Return what it wrote there."""
    terminal, other_end = pty.openpty()
    screen = []
    process = subprocess.Popen(command, cwd=folder, stdin=other_end, stdout=other_end, stderr=other_end,
                               start_new_session=True, env=ENVIRONMENT)
    os.close(other_end)
    reader = threading.Thread(target=drain, args=(terminal, screen), daemon=True)
    reader.start()
    try:
        process.wait(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        screen.append(f"\nno end after {TIMEOUT_S:.0f} s".encode())
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        reader.join(timeout=5)
        os.close(terminal)
    return b"".join(screen).decode(errors="replace")


class Oracle:
    """A built guest program, for as many images as wanted. Use as a context."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="guestmem-ept-")
        self.rom = None
        self.seconds = 0.0

    def __enter__(self):
        try:
            self.rom = build_guest(self.folder.name)
        except BaseException:
            self.folder.cleanup()
            raise
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def ask(self, image_bytes):
        header = HEADER.unpack_from(image_bytes)
        if header[0] != IMAGE_MAGIC or header[1] not in (EPT, NPT):
            raise Failed("not an image")
        if len(image_bytes) > DATA_ADDRESS - IMAGE_ADDRESS:
            raise Failed("the image is too large")
        folder = self.folder.name
        image, out = os.path.join(folder, "image"), os.path.join(folder, "out")
        with open(image, "wb") as file:
            file.write(image_bytes.ljust(-(-len(image_bytes) // CYLINDER) * CYLINDER, b"\0"))
        with open(out, "wb"):
            pass
        ram = ram_mib(image_bytes)
        command = (bochs_command(folder, self.rom, image, out, ram) if header[1] == EPT
                   else qemu_command(self.rom, image, out, ram))
        start = time.monotonic()
        screen = execute(command, folder)
        self.seconds += time.monotonic() - start
        with open(out, "rb") as file:
            stream = file.read()
        if NO_TERMINAL in screen:
            raise Missing("Bochs lacks its terminal display (Debian: bochs-term)")
        try:
            return Answers(stream, header[11])
        except Failed as error:
            raise Failed(f"{error}; the emulator's last words:\n{screen[-2000:]}") from error


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "-":
        image = sys.stdin.buffer.read()
    else:
        with open(sys.argv[1], "rb") as file:
            image = file.read()
    try:
        with Oracle() as oracle:
            for line in oracle.ask(image).lines():
                print(line)
    except Missing as error:
        print(f"run.py: skipped: {error}", file=sys.stderr)
        sys.exit(SKIP)
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
