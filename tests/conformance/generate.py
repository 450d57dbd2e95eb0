#!/usr/bin/env python3
"""Random scripts for `guestmem soft`: generate.py SEED COUNT [FIRST] [--host]

The same SEED gives the same scripts; script number N of a seed does not depend on the others, so that one can be made again
by itself (COUNT 1, FIRST N). Each begins with `# script SEED.N` and `vm`.

--host leaves out what the KVM of a machine without VMX and SVM (kvm_pvm) is known to answer otherwise than KVM elsewhere,
host memory that is not there, the second address space, and stores into the last page that the guest has mapped and past
it; and addresses that not every processor has. No script has a slot at fee00000: Linux's emulator, though not the
processor, takes the APIC's page for MMIO even where a slot is.

The generator keeps a picture of the slots, so that most lines mean something: accesses lie at borders of slots and pages,
and a jump leads to a hlt. It does not predict results, they come from the machines.
"""
import random
import sys

PAGE = 0x1000
MEMORY_PAGES = 0x200
ALIAS = 0x8000000000
ARENA_PAGES = 48
SLOTS_MAX = 32764
PAGES_MAX = (1 << 31) - 1
LOG, READONLY = 1, 2
NOWHERE = 1 << 40  # a host address where nothing is; from here on they are absolute, below it offsets in the memory
USER_END = 0x7ffffffff000  # of host addresses
U64 = (1 << 64) - 1

# Where within a page accesses begin: at its start, in it, and so that they do or do not cross its end.
OFFSETS = [0, 0, 1, 4, 5, 8, 0x120, 0x3fc, 0x800, 0xff0, 0xff7, 0xff8, 0xff9, 0xffa, 0xffb, 0xffc, 0xffd, 0xffe, 0xfff]

# What a program is mostly about: weights of the operations.
THEMES = {
    "mixed": dict(create=8, move=4, flags=4, delete=3, same=1, wrong=3, store=16, load=12, add=4, movs=4, jump=2, host=3,
                  log=12, clear=3, wrong_log=1, wrong_clear=1, cap=1, madv=1, mprot=2, sum=1),
    "borders": dict(create=10, move=3, flags=1, delete=2, same=0, wrong=0, store=24, load=20, add=14, movs=12, jump=2, host=2,
                    log=5, clear=1, wrong_log=0, wrong_clear=0, cap=0, madv=1, mprot=6, sum=1),
    "logs": dict(create=4, move=3, flags=6, delete=1, same=2, wrong=0, store=24, load=6, add=3, movs=3, jump=1, host=2, log=22,
                 clear=14, wrong_log=2, wrong_clear=4, cap=2, madv=2, mprot=1, sum=1),
    "arguments": dict(create=8, move=6, flags=6, delete=6, same=3, wrong=24, store=4, load=4, add=1, movs=1, jump=1, host=1,
                      log=6, clear=2, wrong_log=6, wrong_clear=6, cap=6, madv=1, mprot=1, sum=1),
    "churn": dict(create=18, move=16, flags=10, delete=12, same=3, wrong=3, store=10, load=6, add=1, movs=1, jump=1, host=1,
                  log=8, clear=1, wrong_log=0, wrong_clear=0, cap=0, madv=1, mprot=1, sum=1),
}
THEME_WEIGHTS = [("mixed", 5), ("borders", 4), ("logs", 4), ("arguments", 2), ("churn", 2)]


class Slot:
    def __init__(self, flags, gpa, pages, hva):
        self.flags = flags
        self.gpa = gpa
        self.pages = pages
        self.hva = hva

    def end(self):
        return self.gpa + self.pages * PAGE


class Program:
    def __init__(self, rng, is_host):
        self.rng = rng
        self.is_host = is_host
        self.lines = []
        self.slots = {}
        self.protection = [3] * MEMORY_PAGES
        self.is_manual = False
        theme = rng.choices([name for name, _ in THEME_WEIGHTS], [weight for _, weight in THEME_WEIGHTS])[0]
        self.weights = dict(THEMES[theme])
        # Some programs have no read that makes Linux over-report, so that their logs compare exactly.
        self.plain_reads = rng.choice([0, 0, 0, 0.1, 0.5])
        if is_host:
            self.weights["mprot"] = 0
            self.plain_reads = rng.choice([0, 0.5])

    def emit(self, word, *numbers):
        self.lines.append(" ".join([word] + [f"{number & U64:x}" for number in numbers]))

    def chance(self, probability):
        return self.rng.random() < probability

    # ---- the picture of the slots: what KVM_SET_USER_MEMORY_REGION does, as far as the next lines depend on it ----

    def set(self, number, flags, gpa, size, hva):
        """`set` or `seta`, and what becomes of the picture."""
        self.emit("set" if hva < NOWHERE else "seta", number, flags, gpa, size, hva)
        space, index = number >> 16, number & 0xffff
        old = self.slots.get(number)
        if size % PAGE or gpa % PAGE or hva % PAGE or space > 1 or index >= SLOTS_MAX or flags & ~3:
            return
        if space == 1 and self.is_host or gpa + size > 1 << 52 or size // PAGE > PAGES_MAX or hva + size > USER_END:
            return
        if size == 0:
            self.slots.pop(number, None)
            return
        new = Slot(flags, gpa, size // PAGE, hva)
        if old and ((old.flags ^ flags) & READONLY or old.pages != new.pages or old.hva != hva):
            return
        if any(other >> 16 == space and other != number and slot.gpa < new.end() and gpa < slot.end()
               for other, slot in self.slots.items()):
            return
        if gpa < 0x100010000 and new.end() > 0x100000000 and space == 0:
            return
        self.slots[number] = new

    def some_slot(self):
        return self.rng.choice(sorted(self.slots))

    def some_number(self):
        if not self.is_host and self.chance(0.06):
            return 0x10000 + self.rng.randrange(3)
        return self.rng.randrange(8)

    def some_pages(self):
        return self.rng.choice([1, 1, 1, 2, 2, 3, 4, 8, 16, 0x40, 0x41, 0x90])

    def some_flags(self):
        return self.rng.choice([0, LOG, LOG, LOG, LOG, READONLY, LOG | READONLY])

    def some_gpa(self):
        rng = self.rng
        if self.slots and self.chance(0.5):
            # Next to another one, so that accesses cross from slot to slot.
            slot = self.slots[self.some_slot()]
            return max(0, rng.choice([slot.end(), slot.end(), slot.gpa - PAGE * rng.choice([1, 1, 2, 4]), slot.end() + PAGE]))
        if self.chance(0.04):
            exotic = [0x200000, 0xfffbc000, 0xfec00000, 0xffffd000, 0x100010000]
            return rng.choice(exotic if self.is_host else exotic + [0x13fffe000, 0x13ffff000, 1 << 46, (1 << 52) - PAGE])
        return rng.randrange(ARENA_PAGES) * PAGE

    def some_hva(self, pages):
        rng = self.rng
        if not self.is_host and self.chance(0.03):
            return NOWHERE
        if not self.is_host and self.chance(0.02):
            return rng.choice([MEMORY_PAGES - 1, MEMORY_PAGES, MEMORY_PAGES + 7]) * PAGE  # past the end
        return rng.randrange(min(96, MEMORY_PAGES - pages)) * PAGE

    def create(self):
        number = self.some_number()
        pages = self.some_pages()
        self.set(number, self.some_flags(), self.some_gpa(), pages * PAGE, self.some_hva(pages))

    def move(self):
        number = self.some_slot()
        slot = self.slots[number]
        flags = slot.flags ^ (LOG if self.chance(0.2) else 0)
        gpa = slot.gpa + self.rng.choice([-2, -1, 1, 2, 7]) * PAGE if self.chance(0.3) else self.some_gpa()
        self.set(number, flags, max(0, gpa), slot.pages * PAGE, slot.hva)

    def flags(self):
        number = self.some_slot()
        slot = self.slots[number]
        flags = slot.flags ^ (READONLY if self.chance(0.15) else LOG)
        self.set(number, flags, slot.gpa, slot.pages * PAGE, slot.hva)

    def same(self):
        number = self.some_slot()
        slot = self.slots[number]
        self.set(number, slot.flags, slot.gpa, slot.pages * PAGE, slot.hva)

    def delete(self):
        number = self.some_slot() if self.slots and self.chance(0.9) else self.some_number()
        slot = self.slots.get(number, Slot(0, 0, 0, 0))
        self.set(number, self.rng.choice([0, slot.flags]), self.rng.choice([0, slot.gpa, slot.gpa, 0x7000]), 0,
                 self.rng.choice([0, slot.hva]))

    def wrong(self):
        """One argument or more that the call refuses, beside an overlap or not."""
        rng = self.rng
        number = self.some_slot() if self.slots and self.chance(0.6) else self.some_number()
        slot = self.slots.get(number) or Slot(self.some_flags(), self.some_gpa(), self.some_pages(), rng.randrange(64) * PAGE)
        flags, gpa, size, hva = slot.flags, slot.gpa, slot.pages * PAGE, slot.hva
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            kind = rng.randrange(6)
            if kind == 0:
                number = rng.choice([32763, 32764, 32765, 32767, 0x7fff, 0xffff, 0x20000, 0x2fffc, 0xffffffff, 0x10000 | 32764,
                                     32001, 9])
            elif kind == 1:
                flags |= rng.choice([4, 8, 0x10, 0x10000, 0x80000000])
            elif kind == 2:
                gpa = rng.choice([gpa + 1, gpa + 0x800, gpa + 0xfff, 1 << 52, 1 << 53, 1 << 63, U64 & ~0xfff, U64 - 0x7ff,
                                  0x100000000, 0x10000f000])
            elif kind == 3:
                size = rng.choice([0, 1, size + 1, size - 1, 0xfff, 0x800, 1 << 43, 1 << 44, 1 << 63, U64 & ~0xfff, U64,
                                   size + PAGE, max(0, size - PAGE)])
            elif kind == 4:
                hva = rng.choice([hva + 1, hva + 0x800, hva + PAGE, USER_END, USER_END - PAGE, 0xffff800000000000,
                                  U64 & ~0xfff, 1 << 63])
            else:
                gpa = self.some_gpa()
        hva &= U64
        if self.is_host and (number >> 16 == 1 or MEMORY_PAGES * PAGE < hva + size <= USER_END):
            return
        if size < 1 << 43 and size > 1 << 26:
            return
        self.set(number, flags, gpa, size, hva)

    # ---- accesses ----

    def some_address(self):
        rng = self.rng
        if self.slots and self.chance(0.85):
            slot = self.slots[self.some_slot()]
            inside = rng.randrange(slot.pages)
            page = rng.choice([0, slot.pages - 1, slot.pages, -1, inside, inside, inside, inside])
            base = slot.gpa + page * PAGE
        elif self.chance(0.05):
            base = rng.choice([0x13ffff000, 0xffffe000, 0xfffbd000, 0xfec00000, 0x140000000, 0x7fffffe000, 1 << 46,
                               U64 & ~0xfff, 0x800000000000])
        else:
            base = rng.randrange(ARENA_PAGES) * PAGE
        if 0xfffff000 <= base < 0x100010000:
            base = rng.randrange(ARENA_PAGES) * PAGE  # not the guest's own page tables, nor across into them
        return max(0, base) + rng.choice(OFFSETS)

    def some_size(self):
        return self.rng.choice([1, 2, 4, 8, 8])

    def some_value(self):
        return self.rng.choice([0, 1, U64, self.rng.getrandbits(64), self.rng.getrandbits(64), self.rng.getrandbits(32)])

    def store(self):
        address = self.some_address()
        if self.chance(0.01):
            address = (address + ALIAS) & U64  # which the guest may not write
        self.emit("w", self.some_size(), address, self.some_value())

    def load(self):
        self.emit("r" if self.chance(self.plain_reads) else "ra", self.some_size(), self.some_address())

    def add(self):
        # Processors may be set up to stop guests that lock across cache lines.
        self.emit("add", self.some_address() & (~7 if self.is_host or self.chance(0.4) else U64), self.some_value())

    def movs(self):
        source = self.some_address()
        count = self.rng.choice([0, 1, 2, 7, 8, 16, 31, 0x40, 0x64])
        if self.chance(0.05):
            count = self.rng.choice([0x400, 0x401, 0x500])
        if not self.chance(self.plain_reads):
            source = (source + ALIAS) & U64
        self.emit("movs", self.some_address(), source, count)

    def jump(self):
        address = self.some_address() & ~0xfff
        slot = next((slot for number, slot in self.slots.items()
                     if number >> 16 == 0 and slot.gpa <= address < slot.end()), None)
        if slot and slot.hva < NOWHERE:
            page = (address - slot.gpa + slot.hva) // PAGE
            if page < MEMORY_PAGES:
                if self.protection[page] == 1:
                    return  # the hlt could not be written
                self.emit("hw", page * PAGE, 0xf4)
        self.emit("x", address if self.chance(self.plain_reads) else (address + ALIAS) & U64)

    # ---- the rest ----

    def host(self):
        if self.chance(0.5):
            self.emit("hw", self.rng.randrange(96) * PAGE + self.rng.choice([0, 8, 0xff8, 0xffc]), self.some_value())
        else:
            self.emit("hr", self.rng.randrange(96) * PAGE + self.rng.choice([0, 8, 0xff8, 0xffc]))

    def log(self):
        number = self.some_slot() if self.slots and self.chance(0.93) else self.some_number()
        pages = self.slots[number].pages if number in self.slots else 16
        self.emit("log", number, pages)

    def wrong_log(self):
        number = self.rng.choice([self.some_number(), 32763, 32764, 0x7fff, 0xffff, 0x10000, 0x20000, 0xffffffff, 32000])
        if self.is_host and number >> 16 == 1:
            number = 32764
        self.emit("log", number, self.rng.choice([0, 1, 0x10, 0x40, 0x100]))

    def clear(self):
        numbers = [number for number, slot in sorted(self.slots.items()) if slot.flags & LOG] or sorted(self.slots) or [0]
        number = self.rng.choice(numbers)
        pages = self.slots[number].pages if number in self.slots else 16
        first = self.rng.randrange((pages + 63) // 64) * 64
        count = self.rng.choice([pages - first, pages - first, min(64, pages - first)])
        words = [self.rng.choice([U64, self.rng.getrandbits(64), 1, 0, 3]) for _ in range((count + 63) // 64)]
        self.emit("clear", number, first, count, *words)

    def wrong_clear(self):
        number = self.rng.choice([self.some_slot() if self.slots else 0, self.some_number(), 32764, 0x20000])
        pages = self.slots[number].pages if number in self.slots else 16
        first = self.rng.choice([0, 1, 0x20, 0x40, 0x80, pages, pages + 1, 1 << 32, U64 & ~63, U64])
        count = self.rng.choice([0, 1, 0x3f, 0x40, 0x41, pages, pages + 1, (pages + 63) & ~63, 0x80000000, 0xffffffff])
        if self.is_host and number >> 16 == 1:
            number = 0x20000
        self.emit("clear", number, first, count, *[self.some_value() for _ in range(self.rng.randrange(4))])

    def cap(self):
        argument = self.rng.choice([0, 1, 1, 3, 3, 2, 4, 5, 0x80000001, 1 << 32, 1 << 32 | 1])
        self.emit("cap", self.rng.choice([0xa8, 0xa8, 0xa8, 0xa8, 0xa8, 0xffff]), argument)
        if self.chance(0.2):
            sizes = [0, 1, 0x800, 0xfff, 0x1000, 0x1001, 0x10000, 0x100000, 0x200000, 0x400000]
            self.emit("cap", 0xc0, self.rng.choice(sizes))

    def some_range(self):
        first = self.rng.randrange(80)
        if self.slots and self.chance(0.8):
            slot = self.slots[self.some_slot()]
            first = slot.hva // PAGE + self.rng.randrange(slot.pages)
        first = min(first, MEMORY_PAGES - 4)
        return first, self.rng.choice([1, 1, 1, 2, 3])

    def madv(self):
        first, count = self.some_range()
        self.emit("madv", first * PAGE + (1 if self.chance(0.05) else 0), count * PAGE)

    def mprot(self):
        first, count = self.some_range()
        protection = self.rng.choice([0, 0, 1, 1, 3])
        self.emit("mprot", first * PAGE, count * PAGE, protection)
        self.protection[first:first + count] = [protection] * count

    def sum(self):
        if all(self.protection):
            self.emit("sum")

    # ---- a program ----

    def make(self):
        rng = self.rng
        self.emit("vm")
        manual = rng.choice([0, 0, 0, 1, 3])
        if manual:
            self.emit("cap", 0xa8, manual)
        for _ in range(rng.randrange(4)):
            self.create()
        names = sorted(self.weights)
        for _ in range(rng.randrange(20, 70)):
            name = rng.choices(names, [self.weights[name] for name in names])[0]
            if not self.slots and name in ("move", "flags", "same", "clear"):
                name = "create"
            getattr(self, name)()
        for number in sorted(self.slots):
            self.emit("log", number, self.slots[number].pages)
        if not all(self.protection):
            self.emit("mprot", 0, MEMORY_PAGES * PAGE, 3)
        self.emit("sum")
        return self.lines


def script(seed, number, is_host=False):
    """Its lines."""
    rng = random.Random(f"{seed}.{number}.{is_host}")
    return [f"# script {seed}.{number}"] + Program(rng, is_host).make()


def main():
    arguments = [word for word in sys.argv[1:] if word != "--host"]
    seed, count = int(arguments[0]), int(arguments[1])
    first = int(arguments[2]) if len(arguments) > 2 else 0
    for number in range(first, first + count):
        print("\n".join(script(seed, number, "--host" in sys.argv)))


if __name__ == "__main__":
    main()
