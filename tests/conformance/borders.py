#!/usr/bin/env python3
"""Scripts for `guestmem soft` that try every access across the border of every two kinds of pages.

What becomes of such an access, in which order, and how much of it has happened when it fails, is where KVM's two halves meet:
the processor, which does all or nothing, and the emulator, which goes page by page. Random scripts meet few of them.
"""
import itertools

PAGE = 0x1000
ALIAS = 0x8000000000
BASE = 0x10000  # of the pages at the border, both in guest physical addresses and in the memory
NOWHERE = 0x10000000000
SCRATCH = 9  # a slot of one page at 0

# kind -> flags of the slot (None: there is none), protection of its host memory
KINDS = {
    "ram": (1, 3),
    "readonly": (3, 3),
    "mmio": (None, 3),
    "unreadable": (1, 0),
    "unwritable": (1, 1),
    "readonly_unreadable": (3, 0),
    "nowhere": (1, None),
}

# At the border of the two pages, and within the first one.
ACCESSES = [
    "w 8 10ffc 1122334455667788", "w 2 10fff abcd", "w 4 10ffd 0", "ra 8 10ffc", "ra 2 10fff", "ra 4 10fff", "r 8 10ffb",
    "add 10ffc 1", "add 10fff ffffffffffffffff", "movs 10ffc 8000000000 8", f"movs 100 {ALIAS + 0x10ffc:x} 8",
    f"movs 10ff8 {ALIAS + 0x10ffe:x} 8", "w 8 10100 5", "ra 8 10100", "add 10100 1", "add 10101 1", "add 1003c 1",
    f"x {ALIAS + 0x10000:x}",
]


def make_pages(kinds, is_touched):
    """Slots 0, 1, ... of these kinds; touched first, so that Linux has them mapped, or not."""
    lines = [f"mprot {BASE:x} {len(kinds) * PAGE:x} 3"]
    places = [BASE + number * PAGE for number in range(len(kinds))]
    for number, (place, kind) in enumerate(zip(places, kinds)):
        flags, protection = KINDS[kind]
        lines.append(f"set {number:x} 0 0 0 0")
        if flags is not None and protection is None:
            lines.append(f"seta {number:x} {flags} {place:x} {PAGE:x} {NOWHERE:x}")
        elif flags is not None:
            lines.append(f"set {number:x} {flags} {place:x} {PAGE:x} {place:x}")
    lines += [f"hw {place:x} f4" for place in places]
    if is_touched:
        for number, place in enumerate(places):
            lines += [f"ra 8 {place + 0x200:x}", f"w 8 {place + 0x208:x} 1", f"log {number:x} 1"]
    for place, kind in zip(places, kinds):
        if KINDS[kind][1] in (0, 1):
            lines.append(f"mprot {place:x} {PAGE:x} {KINDS[kind][1]}")
    return lines


def show_pages(count):
    lines = [f"log {number:x} 1" for number in list(range(count)) + [SCRATCH]]
    lines.append(f"mprot {BASE:x} {count * PAGE:x} 3")
    for number in range(count):
        lines += [f"hr {BASE + number * PAGE + 0xff8:x}", f"hr {BASE + number * PAGE:x}"]
    return lines


def scripts():
    """All of them."""
    for kinds in itertools.product(KINDS, repeat=2):
        lines = [f"# script borders.{'.'.join(kinds)}", "vm", f"set {SCRATCH:x} 1 0 {PAGE:x} 0"]
        for access, is_touched in itertools.product(ACCESSES, (False, True)):
            lines += make_pages(kinds, is_touched) + [access] + show_pages(2) + ["hr 100"]
        yield lines
    # A move across two borders, one of them at another byte than the other.
    for kinds in itertools.product(KINDS, repeat=2):
        lines = [f"# script moves.{'.'.join(kinds)}", "vm", f"set {SCRATCH:x} 1 0 {PAGE:x} 0"]
        for sources in itertools.product(KINDS, repeat=2):
            lines += make_pages(kinds + sources, False) + [f"movs 10ffb {ALIAS + 0x12ffd:x} 8"] + show_pages(4)
        yield lines


if __name__ == "__main__":
    for script in scripts():
        print("\n".join(script))
