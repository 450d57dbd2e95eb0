"""What bench/run measures: the rows, their figures, and their targets.

A figure is ours beside a peer's, each a case of a program (bench/measure.h); the peer may be another case of ours. Lower is
better in all of them. A figure without a peer has a limit of its own, or only tells.
"""
from dataclasses import dataclass, field

RANGES = (1, 8, 64, 500)


@dataclass(frozen=True)
class Target:
    """Words for the table, and whether ours and the peer's (None without one) meet it. @times is peer / ours, of the same round."""
    words: str
    kind: str
    number: float

    def met(self, ours, peer, times):
        return {
            "faster": lambda: times >= self.number,
            "at most": lambda: times * self.number >= 1,
            "within": lambda: ours - peer <= self.number,
            "below": lambda: ours <= self.number,
        }[self.kind]()

    @property
    def needs_peer(self):
        return self.kind != "below"


def faster(times):
    words = "no slower" if times == 1 else f"{times:g}x faster" if times > 1 else f"{times:g} of its speed"
    return Target(words, "faster", times)


def at_most(times):
    return Target(f"at most {times:g}x", "at most", times)


def within(ns):
    return Target(f"within {ns:g} ns", "within", ns)


def below(limit, unit="ns"):
    return Target(f"below {limit:g} {unit}", "below", limit)


@dataclass(frozen=True)
class Figure:
    label: str
    ours: str  # PROGRAM:CASE
    peer: str = ""
    target: Target = None
    unit: str = "ns"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    figures: list = field(default_factory=list)
    rounds: int = 7


# Programs: what they are started as. {build} is the build folder, {bench} this one.
PROGRAMS = {
    "commit": ["{build}/bench/bench-commit"],
    "access": ["{build}/bench/bench-access"],
    "copy": ["{build}/bench/bench-copy"],
    "mmio": ["{build}/bench/bench-mmio"],
    "dirty": ["{build}/bench/bench-dirty"],
    "readers": ["{build}/bench/bench-readers"],
    "slots": ["{build}/bench/bench-slots"],
    "fault": ["{build}/bench/bench-fault"],
    "linear": ["{build}/bench/bench-linear"],
    "log": ["{build}/bench/bench-log"],
    "tables": ["{build}/bench/bench-tables"],
    "preloaded": ["{build}/guestmem", "kvm", "--", "{build}/bench/bench-preload"],
    "dev-kvm": ["{build}/bench/bench-preload"],
    "interpreter": ["{bench}/interpreter.py", "{build}"],
    "unicorn": ["{build}/bench/bench-unicorn"],
    "firmware": ["{bench}/firmware.py", "{build}"],
    "vm-memory": ["{build}/bench/rust/release/bench-vm-memory"],
    "qemu": ["{bench}/peers/qemu.py"],
}

# What has to be there for a program that is not ours, and how it comes there.
INSTALL = "peer not installed (scripts/install-deps bench)"


def commit_figures():
    targets = {1: faster(30), 200: faster(100)}
    figures = []
    for ours, theirs in (("bridges", "e1000"), ("ports", "edu")):
        for count in (1, 8, 30, 100, 200):
            figures.append(Figure(f"{count} {theirs}", f"commit:{ours}/{count}", f"qemu:{theirs}/{count}", targets.get(count)))
        figures.append(Figure(f"200 {theirs}, beside 8", f"commit:{ours}/200", f"commit:{ours}/8", at_most(1.5)))
        figures.append(Figure(f"500 {theirs}", f"commit:{ours}/500", "", below(2000)))
    return figures


def ram_bar_figures():
    figures = []
    for count in (1, 8, 30, 100, 200):
        figures.append(Figure(f"{count} RAM BARs", f"commit:kvm/{count}", f"commit:ioctl/{count}", at_most(1.1)))
        figures.append(Figure(f"{count} RAM BARs, QEMU", f"commit:kvm/{count}", f"qemu:ivshmem/{count}"))
    return figures


def by_ranges(cases, target):
    return [Figure(f"{words}, {count} ranges", f"access:{case}/{count}", f"vm-memory:{case}/{count}", target(count))
            for words, case in cases for count in RANGES]


def faster_when_many(count):
    return faster(3 if count >= 64 else 1)


def copy_figures():
    figures = []
    for way, plain in (("read", "memcpy-out"), ("write", "memcpy-in")):
        figures += by_ranges([(f"{way} 64 B", f"{way}64")], lambda count: faster(2))
        for size_bytes, words in ((64, "64 B"), (4096, "4 KiB"), (1 << 20, "1 MiB")):
            figures.append(Figure(f"{way} {words}, memcpy", f"copy:{way}/{size_bytes}", f"copy:{plain}/{size_bytes}",
                                  faster(0.95) if size_bytes >= 4096 else None))
    return figures


def mmio_figures():
    figures = [Figure(f"{way}, {count} ranges", f"mmio:{way}/1/{count}", "", below(20) if count == 500 else None)
               for way in ("load", "store") for count in RANGES]
    return figures + [Figure(f"{way}, 500 ranges, 2 threads", f"mmio:{way}/2/500", f"mmio:{way}/1/500", at_most(1.1))
                      for way in ("load", "store")]


DIRTY_PARTS = ((0, "clean"), (1000, "0.1% dirty"), (10, "10% dirty"), (1, "100% dirty"))


def dirty_figures():
    figures = [Figure(f"store, {count} ranges", f"dirty:logged-store/{count}", f"vm-memory:logged-store/{count}", faster(2))
               for count in RANGES]
    figures += [Figure(f"store, 8 ranges, {threads} threads", f"dirty:logged-threads/{threads}",
                       f"vm-memory:logged-threads/{threads}", faster(2)) for threads in (1, 2)]
    figures += [Figure("mark of 1 MiB", "dirty:mark", "vm-memory:mark", below(50))]
    figures += [Figure(f"harvest of {gib} GiB, {words}", f"dirty:harvest/{gib}/{every}", f"vm-memory:harvest/{gib}/{every}",
                       below(2000) if (gib, every) == (64, 0) else None)
                for gib in (1, 64) for every, words in DIRTY_PARTS]
    return figures


def reader_figures():
    figures = [Figure(f"a view taken and put, {count} ranges", f"readers:snapshot/{count}", f"vm-memory:snapshot/{count}")
               for count in (8, 500)]
    figures += [Figure(f"a reader's view, {count} ranges", f"readers:section/{count}", f"vm-memory:snapshot/{count}", below(2))
                for count in (8, 500)]
    for count in (8, 500):
        figures.append(Figure(f"view and lookup on 2 threads beside 1,000 commits a second, {count} ranges",
                              f"readers:sections-commits/{count}", f"readers:sections/{count}", at_most(1.05)))
        figures.append(Figure(f"load on 2 threads, {count} ranges", f"readers:readers/{count}", f"vm-memory:readers/{count}"))
        figures.append(Figure("... beside 1,000 commits a second", f"readers:readers-commits/{count}",
                              f"vm-memory:readers-commits/{count}"))
        figures.append(Figure("... beside none", f"readers:readers-commits/{count}", f"readers:readers/{count}", at_most(1.05)))
    return figures


def slot_figures():
    steps = ("create", "move", "delete", "flags")
    figures = [Figure(f"{step}, {count} slots", f"slots:{step}/{count}", f"slots:{step}-kvm/{count}", faster(1))
               for count in (8, 512, 16000, 32764) for step in steps]
    figures += [Figure(f"{step}, 32764 slots, beside 8", f"slots:{step}/32764", f"slots:{step}/8", at_most(2))
                for step in steps]
    return figures + [Figure(f"{step}, {count} slots, 2 vCPUs running", f"slots:{step}-run/{count}", f"slots:{step}/{count}")
                      for count in (8, 32764) for step in steps]


def fault_figures():
    return [
        Figure("first touch of 4 KiB", "fault:touch/1", "fault:host/1", faster(2)),
        Figure("... on 2 threads", "fault:touch/2", "fault:host/2", faster(2)),
        # 1.8 times the pages: each thread takes at most 2 / 1.8 of the time.
        Figure("... beside 1 thread", "fault:touch/2", "fault:touch/1", at_most(1.11)),
        Figure("TLB hit", "fault:hit", "fault:raw", below(2)),
        Figure("TLB hit, dependent", "fault:hit-chase", "fault:raw-chase"),
        Figure("TLB miss, EPT of 5 levels", "fault:walk", "unicorn:fill"),
        Figure("nested walk, TLB cold", "linear:ept-walk", "linear:ept-plain"),
        Figure("shadow walk, TLB cold", "linear:shadow-walk", "linear:ept-walk"),
        Figure("first touch by linear address, nested", "linear:ept-touch"),
        Figure("... shadowed", "linear:shadow-touch", "linear:ept-touch"),
    ] + [Figure(f"{words}, shadowed", f"linear:shadow-{case}", f"linear:ept-{case}") for case, words in (
        ("directory-write", "write of a directory's entry in use"), ("first-write", "write of a table, first after flush"),
        ("next-write", "write of a table, next ones"), ("edit", "entry, INVLPG, access"),
        ("switch", "CR3 and an access"), ("switch-kept", "CR3 and an access, PCID kept"))]


def log_figures():
    figures = []
    for every, words in DIRTY_PARTS:
        figures.append(Figure(f"get, {words}", f"log:get/{every}", "log:pass", at_most(2)))
        figures.append(Figure(f"clear, {words}", f"log:clear/{every}", "log:pass", at_most(2)))
        figures.append(Figure(f"get that clears, {words}", f"log:get-auto/{every}", "log:pass", at_most(2)))
    figures.append(Figure("get, clean, /dev/kvm", "log:get/0", "log:kvm-get"))
    for way in ("on", "off"):
        # 64 times the leaves.
        figures.append(Figure(f"log {way}, 64 GiB, beside 1 GiB", f"log:{way}/64", f"log:{way}/1", at_most(64 * 1.25)))
    return figures


def preload_figures():
    return [Figure(words, f"preloaded:{case}", f"dev-kvm:{case}") for case, words in (
        ("slot", "slot, created and deleted"), ("port-exit", "KVM_RUN to a port"), ("close", "dup and close of an eventfd"),
        ("ioctl", "ioctl of an eventfd"), ("unmap", "mmap and munmap of a page"))]


ROWS = [
    Row("commit", "a commit that toggles one BAR", commit_figures(), rounds=5),
    Row("ram-bar", "the same with the BAR as RAM, on /dev/kvm", ram_bar_figures(), rounds=5),
    Row("firmware", "SeaBIOS' boot, on /dev/kvm", [
        Figure("slot calls", "firmware:calls", "qemu:seabios", None, "calls"),
        Figure("... on unchanged memory", "firmware:unchanged", "qemu:seabios-unchanged", below(0, "calls"), "calls"),
    ], rounds=1),
    Row("lookup", "lookup of a random GPA",
        by_ranges((("find", "find"), ("find, dependent", "chase")), faster_when_many)),
    Row("access", "8 bytes at a random GPA",
        by_ranges((("load", "load"), ("load, dependent", "load-chase"), ("store", "store")), faster_when_many)),
    Row("cache", "cached translation", [
        Figure("load of 8 bytes", "copy:cache-load", "copy:raw-load", within(0.5)),
        Figure("store of 8 bytes", "copy:cache-store", "copy:raw-store", within(0.5))]),
    Row("map", "map and unmap 4 KiB",
        [Figure(f"{count} ranges", f"access:map/{count}", "", below(30)) for count in RANGES]),
    Row("mmio", "an access that a callback answers", mmio_figures()),
    Row("copy", "read and write", copy_figures()),
    Row("dirty", "the dirty record", dirty_figures(), rounds=5),
    Row("readers", "readers beside commits", reader_figures()),
    Row("slots", "slots of the software KVM", slot_figures(), rounds=5),
    Row("fault", "a software vCPU's way to memory", fault_figures()),
    Row("log", "dirty log of 4 GiB", log_figures(), rounds=3),
    Row("tables", "memory that is taken", [
        # Tables above the last level add 1/512 and little more.
        Figure("1 TiB in leaves of 2 MiB", "tables:leaf-2m/1024", "", below(8.4, "B"), "B a leaf"),
        Figure("16 GiB in leaves of 4 KiB", "tables:leaf-4k/16", "", below(8.4, "B"), "B a leaf"),
        Figure("region", "tables:region", "", None, "B"),
        Figure("flat range", "tables:range", "", None, "B"),
        Figure("slot of the planner", "tables:slot", "", None, "B")], rounds=1),
    Row("interpreter", "guest instructions", [
        Figure("an instruction of compiled code", "interpreter:instruction", "", below(1000 / 60)),
        Figure("two rounds of compiled code", "interpreter:code/2", "unicorn:code/2")], rounds=3),
    Row("preload", "a program under the preloaded library", preload_figures(), rounds=3),
]
