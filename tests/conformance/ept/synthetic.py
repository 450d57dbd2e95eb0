#!/usr/bin/env python3
"""Random trees of our own making: the emulators must find in them what model.py says.

    synthetic.py           every suite; GM_SEED=N the same again, GM_EPT_QUERIES=N addresses a suite (5000; Bochs twice that)

So that a difference over the library's tables is the library's: the guest program, the images and the emulators have
been seen to agree with the SDM on entries of every kind. Ends with the lines that scripts/run-tests counts.
"""
import os
import random
import subprocess
import sys
import time

import model
import run
from model import R, W, X

QUERIES_PER_IMAGE = 1000
GIB = 1 << 30
FRAMES_4K = [(run.DATA_ADDRESS + 4096 * i, 4096) for i in range(256)]
FRAMES_2M = [(0x12000000 + (i << 21), 1 << 21) for i in range(16)]
FRAMES_1G = [(GIB, GIB), (2 * GIB, GIB)]
FRAMES = {1: FRAMES_4K, 2: FRAMES_2M, 3: FRAMES_1G}

# How many entries of a table are used.
FANOUT = {5: 2, 4: 3, 3: 8, 2: 10, 1: 60}

# Bits that make an entry of a level a misconfiguration; it is a leaf, or not. Bit 12 of a large leaf is as reserved as its
# neighbours, but Bochs 2.7 takes it for the PAT bit that is there in ordinary page tables.
WRONG_BITS = {
    (5, False): range(3, 8),
    (4, False): range(3, 8),
    (3, False): range(3, 7),
    (2, False): range(3, 7),
    (3, True): range(13, 30),
    (2, True): range(13, 21),
}


class Machine:
    """What a suite's processor is expected to be able to do."""

    def __init__(self, name, layout, levels, physical_bits, gpa_bits, execute_only):
        self.name = name
        self.layout = layout
        self.levels = levels
        self.physical_bits = physical_bits
        self.gpa_bits = gpa_bits
        self.execute_only = execute_only
        self.capabilities = model.CAP_LARGE[2] | model.CAP_LARGE[3] | model.CAP_LEVELS[levels] | model.CAP_ACCESSED_DIRTY
        if execute_only:
            self.capabilities |= model.CAP_EXECUTE_ONLY


BOCHS = Machine("bochs", run.EPT, 4, 40, 40, True)
QEMU4 = Machine("qemu_4_levels", run.NPT, 4, 51, 48, False)
QEMU5 = Machine("qemu_5_levels", run.NPT, 5, 51, 51, False)


class Tree:
    """Random EPT tables."""

    def __init__(self, rng, machine, large_1g):
        self.rng = rng
        self.machine = machine
        self.large_1g = large_1g
        self.window = None
        while self.window is None:
            self.tables = []
            self.spans = []  # (first GPA, size) of what entries cover
            self.leaves = []  # ... and leaves alone
            self.root = self.grow(machine.levels, 0, top=True)
            self.window = self.place_window()

    def ignored(self):
        """Bits that processors do not look at: 62:52, 11 and 10. (61 and 60 count only with features that are off.)"""
        value = self.rng.getrandbits(11) << 52 | self.rng.getrandbits(2) << 10 if self.rng.random() < 0.5 else 0
        return value | (1 << 63 if self.rng.random() < 0.2 else 0)

    def wrong(self, level, leaf):
        """Bits to add to an entry that make it a misconfiguration, and rights to take away."""
        kinds = ["write_only", "address"]
        if not leaf or level > 1:
            kinds.append("reserved")
        if leaf:
            kinds.append("type")
        kind = self.rng.choice(kinds)
        if kind == "write_only":
            return W | self.rng.choice([0, X]), R | X
        if kind == "address":
            return 1 << self.rng.randrange(self.machine.physical_bits, 52), 0
        if kind == "type":
            return self.rng.choice([2, 3, 7]) << model.TYPE_SHIFT, model.TYPE_MASK << model.TYPE_SHIFT
        return 1 << self.rng.choice(WRONG_BITS[level, leaf]), 0

    def rights(self, leaf):
        choices = [R | W | X] * (3 if leaf else 8) + [R | W, R | X, R] + ([X] if self.machine.execute_only else [])
        return self.rng.choice(choices)

    def entry(self, level, leaf, address):
        entry = address | self.rights(leaf) | self.ignored()
        if leaf:
            entry |= self.rng.choice([0, 1, 4, 5, 6]) << model.TYPE_SHIFT
            entry |= self.rng.getrandbits(1) << 6  # ignore PAT
            entry |= self.rng.choice([0, model.ACCESSED, model.DIRTY, model.ACCESSED | model.DIRTY])
            if level > 1:
                entry |= model.LARGE
            elif self.rng.random() < 0.1:
                entry |= 1 << 7  # is ignored in a 4 KiB leaf
        elif self.rng.random() < 0.3:
            entry |= model.ACCESSED
        if self.rng.random() < 0.06:
            add, remove = self.wrong(level, leaf)
            entry = (entry & ~remove) | add
        return entry

    def grow(self, level, base, top=False):
        """A table for what begins at `base`. Return its number."""
        number = len(self.tables)
        table = [0] * 512
        self.tables.append(table)
        shift = 3 + 9 * level
        end = min(512, 1 << max(0, self.machine.gpa_bits - shift)) if top or level >= 4 else 512
        count = min(FANOUT[level], end)
        for place in sorted(self.rng.sample(range(end), count)):
            gpa = base | place << shift
            large = level in (2, 3) and self.rng.random() < 0.4 and (level == 2 or self.large_1g)
            if level == 1 or large:
                table[place] = self.entry(level, True, self.rng.choice(FRAMES[level])[0])
                self.leaves.append((gpa, 1 << shift))
            else:
                below = self.grow(level - 1, gpa)
                table[place] = self.entry(level, False, run.Image.table_address(below))
            self.spans.append((gpa, 1 << shift))
        for _ in range(2):  # not present, whatever else is in there
            place = self.rng.randrange(512)
            if table[place] == 0 and not top and level < 4:
                table[place] = self.rng.getrandbits(64) & ~(R | W | X)
                self.spans.append((base | place << shift, 1 << shift))
        return number

    def place_window(self):
        """A GiB of the guest physical addresses that is free for what the guest program puts there. None: not found."""
        for _ in range(1000):
            gpa = self.rng.randrange(1 << (self.machine.gpa_bits - 30)) << 30
            table, level = self.tables[self.root], self.machine.levels
            while level >= 3:
                entry = table[model.index(gpa, level)]
                if entry == 0:
                    return gpa
                if level == 3 or entry & (R | W | X) != R | W | X or model.is_leaf(entry, level):
                    break
                if model.is_misconfigured(entry, level, self.machine):
                    break
                table, level = self.tables[self.number_of(entry & model.ADDRESS)], level - 1
        return None

    def number_of(self, address):
        return (address - run.Image.table_address(0)) // 4096

    def queries(self, count):
        while count > 0:
            kind = self.rng.random()
            base, size = 0, 1 << self.machine.gpa_bits
            if kind < 0.9:
                base, size = self.rng.choice(self.leaves if kind < 0.75 else self.spans)
            gpa = base + self.rng.randrange(size)
            if gpa >> 30 != self.window >> 30:
                yield gpa & ~7, self.rng.choice([model.READ, model.WRITE, model.FETCH])
                count -= 1


class Catalogue(Tree):
    """One entry of each kind, at levels 3 to 1: a good one with one bit turned, and all rights with all memory types.

    With `top_bit` instead: two entries at level 4, one of which has that bit turned.
    """

    def __init__(self, machine, top_bit=None):
        self.machine = machine
        self.large_1g = top_bit is None
        self.window = 511 << 30
        self.root = 0
        self.tables = [[0] * 512 for _ in range(4)]  # of levels 4 to 1
        self.gpas = []
        for number in range(3):
            self.tables[number][0] = run.Image.table_address(number + 1) | R | W | X
        self.tables[3][0] = self.good_leaf(1)
        if top_bit is not None:
            self.tables[0][1] = self.tables[0][0] ^ 1 << top_bit
            self.gpas = [1 << 39 | 0x208]
            return
        for level in (3, 2, 1):
            for entry in self.variants(level):
                place = self.tables[4 - level].index(0)
                self.tables[4 - level][place] = entry
                self.gpas.append(place << (3 + 9 * level) | 0x208)

    @staticmethod
    def good_leaf(level):
        return FRAMES[level][0][0] | R | W | X | 6 << model.TYPE_SHIFT | (model.LARGE if level > 1 else 0)

    def variants(self, level):
        """Turned are no address bits that would lead elsewhere; nor bit 12, see WRONG_BITS."""
        leaf, table = self.good_leaf(level), self.tables[4 - level][0]
        for rights in range(8):
            if rights != X or self.machine.execute_only:
                for memory_type in range(8):
                    yield leaf & ~0x3F | rights | memory_type << model.TYPE_SHIFT
                if level > 1:
                    yield table & ~7 | rights
        for bit in range(64):
            if bit < 12 or bit >= self.machine.physical_bits or (level > 1 and 12 < bit < 3 + 9 * level):
                if level == 1 or bit != 7:
                    yield leaf ^ 1 << bit
            if level > 1 and bit != 7 and (bit < 12 or bit >= self.machine.physical_bits):
                yield table ^ 1 << bit

    def queries(self, _count):
        for gpa in self.gpas:
            for kind in (model.READ, model.WRITE, model.FETCH):
                yield gpa, kind


# ---- AMD's format ----

# Present, writable, user (nested walks are a user's), accessed, dirty; execute-disable.
N_P, N_W, N_U, N_A, N_D, N_NX = 1, 2, 4, 0x20, 0x40, 1 << 63
N_RESERVED = 1 << 51
# EXITINFO1: present, write, user, reserved bit, fetch; the fault was at the final address, or at a table's.
NPF_P, NPF_W, NPF_U, NPF_RESERVED, NPF_FETCH = 1, 2, 4, 8, 0x10
NPF_MASK = 0x1F | 3 << 32
NPF_FINAL = 1 << 32


def npt_entry(entry, level, machine):
    """An EPT entry with the same meaning, as far as there is one: wrong entries get a reserved bit."""
    if not entry & (R | W | X):
        return 0
    wrong = model.is_misconfigured(entry, level, machine)
    leaf = model.is_leaf(entry, level)
    value = (entry & model.ADDRESS & ~model.bits(51, machine.physical_bits)) | N_P | N_U
    if leaf and level > 1:
        value = (value & ~model.RESERVED[level, True]) | model.LARGE
    value |= (N_W if entry & W else 0) | (0 if entry & X else N_NX) | (N_RESERVED if wrong else 0)
    value |= N_A if entry & model.ACCESSED else 0
    return value | (N_D if leaf and entry & model.DIRTY else 0)


def npt_flags(flags):
    return (N_A if flags & model.ACCESSED else 0) | (N_D if flags & model.DIRTY else 0)


def npt_outcome(outcome, kind):
    """The same end, as SVM tells it. Without execute-only entries a violation whose rights are 0 met an absent entry."""
    outcome.must_set = {place: npt_flags(flags) for place, flags in outcome.must_set.items()}
    outcome.may_set = {place: npt_flags(flags) for place, flags in outcome.may_set.items()}
    if outcome.name == "ok":
        return outcome
    # QEMU 7.2 leaves P clear when it reports reserved bits, where processors set both.
    if outcome.name == "misconfiguration":
        cause = NPF_RESERVED
    else:
        cause = NPF_P if outcome.detail >> 3 & 7 != 0 else 0
    access = {model.READ: 0, model.WRITE: NPF_W, model.FETCH: NPF_FETCH}[kind]
    outcome.detail = NPF_FINAL | NPF_U | cause | access
    outcome.name = "nested_fault"
    return outcome


def npt_tables(tree, tables):
    """All tables in AMD's format. Which level a table is of is found by walking."""
    converted = [[0] * 512 for _ in tables]

    def convert(number, level):
        for place, entry in enumerate(tables[number]):
            converted[number][place] = npt_entry(entry, level, tree.machine)
            if entry & (R | W | X) and not model.is_leaf(entry, level):
                below = tree.number_of(entry & model.ADDRESS & ~model.bits(51, tree.machine.physical_bits))
                if 0 <= below < len(tables):
                    convert(below, level - 1)

    convert(tree.root, tree.machine.levels)
    return converted


# ---- comparing ----


class Comparison:
    def __init__(self):
        self.tally = {}
        self.differences = []

    def differ(self, text):
        self.differences.append(text)

    def answer(self, number, query, got, want):
        mask = {"violation": model.QUALIFICATION_MASK, "nested_fault": NPF_MASK}.get(want.name, 0)
        self.tally[want.name] = self.tally.get(want.name, 0) + 1
        if got[0] != want.name or got[1] & mask != want.detail & mask or got[2] != want.address:
            self.differ(f"query {number}, {'RWX'[query[1]]} of {query[0]:x}: {got[0]} {got[1]:x} {got[2]:x}, the model "
                        f"says {want.name} {want.detail:x} {want.address:x}")

    def entries(self, before, after, must, may):
        for number, table in enumerate(before):
            for place, entry in enumerate(table):
                least = entry | must.get((number, place), 0)
                most = least | may.get((number, place), 0)
                value = after.get((number, place), 0)
                if value & ~most or least & ~value:
                    self.differ(f"table {number} entry {place}: {value:x}, the model says {least:x}")


def window_path(tree):
    """The entries above the window's: walked for each of its accesses, too."""
    number, level = tree.root, tree.machine.levels
    while (entry := tree.tables[number][model.index(tree.window, level)]) != 0:
        yield number, model.index(tree.window, level)
        number, level = tree.number_of(entry & model.ADDRESS), level - 1


def make_image(tree, accessed_dirty, queries):
    machine = tree.machine
    image = run.Image(machine.layout, machine.levels)
    image.tables = tree.tables
    image.root = run.Image.table_address(tree.root)
    if machine.layout == run.NPT:
        image.tables = npt_tables(tree, tree.tables)
    else:
        image.root = model.eptp(image.root, machine.levels, accessed_dirty)
    image.frames = FRAMES_4K + FRAMES_2M + (FRAMES_1G if tree.large_1g else [])
    image.window = tree.window
    image.queries = queries
    return image


def compare(tree, image, pointer, answers, comparison):
    """All answers of one image, and its entries at the end."""
    machine = tree.machine
    npt = machine.layout == run.NPT
    must, may = {}, {}
    if pointer & model.EPTP_ACCESSED_DIRTY:
        must = {place: N_A if npt else model.ACCESSED for place in window_path(tree)}
    for number, (query, got) in enumerate(zip(image.queries, answers.answers)):
        want = model.translate(machine, tree.tables, tree.number_of, pointer, *query)
        if npt:
            want = npt_outcome(want, query[1])
        for place, flags in want.must_set.items():
            must[place] = must.get(place, 0) | flags
        for place, flags in want.may_set.items():
            may[place] = may.get(place, 0) | flags
        comparison.answer(number, query, got, want)
    comparison.entries(image.tables, answers.entries, must, may)


def ask(oracle, tree, accessed_dirty, query_count, comparison):
    """One image."""
    machine = tree.machine
    image = make_image(tree, accessed_dirty, list(tree.queries(query_count)))
    answers = oracle.ask(image.pack())
    if machine.layout == run.EPT and answers.capabilities & machine.capabilities != machine.capabilities:
        comparison.differ(f"capabilities {answers.capabilities:x}")
    if answers.physical_bits != machine.physical_bits:
        comparison.differ(f"{answers.physical_bits} physical bits, not {machine.physical_bits}")
    pointer = model.eptp(run.Image.table_address(tree.root), machine.levels, accessed_dirty)
    compare(tree, image, pointer, answers, comparison)


def suite(oracle, machine, seed, query_count):
    """Return what differs."""
    rng = random.Random(f"{seed} {machine.name}")
    comparison = Comparison()
    start, before = time.monotonic(), oracle.seconds
    if machine.levels == 4:
        ask(oracle, Catalogue(machine), True, 0, comparison)
        for top_bit in (*range(12), 40, 51, 52, 63) if machine.layout == run.EPT else ():
            ask(oracle, Catalogue(machine, top_bit), True, 0, comparison)
    for number in range((query_count + QUERIES_PER_IMAGE - 1) // QUERIES_PER_IMAGE):
        # Three images of four with A/D flags, where they can be had without; one of three with 1 GiB leaves, since
        # more RAM takes Bochs longer to start.
        accessed_dirty = machine.layout == run.NPT or number % 4 != 3
        tree = Tree(rng, machine, large_1g=number % 3 == 0)
        count = min(QUERIES_PER_IMAGE, query_count - number * QUERIES_PER_IMAGE)
        ask(oracle, tree, accessed_dirty, count, comparison)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(comparison.tally.items()))
    print(f"{machine.name}: {sum(comparison.tally.values())} addresses: {counts}; {len(comparison.differences)} differences; "
          f"{time.monotonic() - start:.1f} s, {oracle.seconds - before:.1f} of them the emulator's", flush=True)
    return comparison.differences


def main():
    seed = int(os.environ.get("GM_SEED", str(int(time.time()))), 0)
    query_count = int(os.environ.get("GM_EPT_QUERIES", "5000"), 0)
    print(f"synthetic: GM_SEED={seed}")
    passed, failed, skipped = 0, 0, 0
    try:
        with run.Oracle() as oracle:
            for machine, share in ((BOCHS, 2), (QEMU4, 1), (QEMU5, 1)):
                try:
                    differences = suite(oracle, machine, seed, share * query_count)
                except run.Missing as error:
                    print(f"{machine.name}: skipped: {error}")
                    skipped += 1
                    continue
                for text in differences[:20]:
                    print(f"{machine.name}: {text}")
                passed, failed = passed + (not differences), failed + bool(differences)
    except run.Missing as error:
        print(f"synthetic: skipped: {error}")
        sys.exit(run.SKIP)
    except (run.Failed, subprocess.CalledProcessError) as error:
        print(f"synthetic: {error}")
        failed += 1
    if passed + failed == 0:
        sys.exit(run.SKIP)
    for word, count in (("PASSED", passed), ("SKIPPED", skipped), ("FAILED", failed)):
        if count:
            print(f"[  {word}  ] {count} test(s).")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
