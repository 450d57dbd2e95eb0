"""What the Intel SDM says that a processor makes of EPT tables: slow, and from its tables of bits.

Intel SDM volume 3C, "EPT Translation Mechanism" (formats of entries), "EPT Misconfigurations", "EPT Violations" (exit
qualification: table of chapter "VM Exits"), "Prioritization of EPT Misconfigurations and EPT Violations", and "Accessed
and Dirty Flags for EPT". Written from there, knowing nothing of the library's own walker.
"""

READ, WRITE, FETCH = 0, 1, 2

# Bits of an entry.
R, W, X = 1 << 0, 1 << 1, 1 << 2
TYPE_SHIFT, TYPE_MASK = 3, 7
LARGE = 1 << 7
ACCESSED = 1 << 8
DIRTY = 1 << 9
ADDRESS = ((1 << 52) - 1) & ~0xFFF

# The right that each kind of access needs, which is also its bit in the exit qualification.
RIGHT = {READ: R, WRITE: W, FETCH: X}

# Memory types that a leaf may have: UC, WC, WT, WP, WB.
GOOD_TYPES = {0, 1, 4, 5, 6}

# Exit qualification of a violation: bits 2:0 the access, 5:3 what all entries together allow, 7 a linear address is
# valid, 8 the access was to its translation. The others are undefined, or 0 without features that are off here.
QUALIFICATION_MASK = 0x1BF
LINEAR_VALID = 1 << 7
LINEAR_TRANSLATED = 1 << 8

# IA32_VMX_EPT_VPID_CAP.
CAP_EXECUTE_ONLY = 1 << 0
CAP_LEVELS = {4: 1 << 6, 5: 1 << 7}
CAP_LARGE = {2: 1 << 16, 3: 1 << 17}
CAP_ACCESSED_DIRTY = 1 << 21

# EPTP.
EPTP_WRITE_BACK = 6
EPTP_ACCESSED_DIRTY = 1 << 6


def bits(high, low):
    return (1 << (high + 1)) - (1 << low)


# level, is a leaf -> bits that must be 0, beside those of an address that is too large.
RESERVED = {
    (5, False): bits(7, 3),
    (4, False): bits(7, 3),
    (3, False): bits(6, 3),
    (2, False): bits(6, 3),
    (3, True): bits(29, 12),
    (2, True): bits(20, 12),
    (1, True): 0,
}


def eptp(root, levels, accessed_dirty):
    return root | EPTP_WRITE_BACK | (levels - 1) << 3 | (EPTP_ACCESSED_DIRTY if accessed_dirty else 0)


def index(gpa, level):
    return gpa >> (3 + 9 * level) & 511


def is_leaf(entry, level):
    return level == 1 or (level <= 3 and entry & LARGE != 0)


def is_misconfigured(entry, level, machine):
    """Of an entry that is present."""
    leaf = is_leaf(entry, level)
    if entry & (R | W) == W:
        return True
    if entry & (R | W | X) == X and not machine.capabilities & CAP_EXECUTE_ONLY:
        return True
    if entry & bits(51, machine.physical_bits):
        return True
    if leaf and level > 1 and not machine.capabilities & CAP_LARGE[level]:
        return True
    if leaf and (entry >> TYPE_SHIFT & TYPE_MASK) not in GOOD_TYPES:
        return True
    return bool(entry & RESERVED[level, leaf])


class Outcome:
    """What came of an access, and the flags that it sets in entries, {(table, index): bits}.

    `may_set` are those that the SDM leaves open: an access that ends in a violation has used entries as well.
    """

    def __init__(self, name, detail, address, must_set, may_set):
        self.name = name
        self.detail = detail
        self.address = address
        self.must_set = must_set
        self.may_set = may_set


def translate(machine, tables, number_of, pointer, gpa, kind):
    """One access through the tables that the EPTP leads to.

    tables: {number: 512 entries}; number_of(address) is a table's number. Whole iterative process of "Prioritization":
    from the root down, an entry that is not present is a violation, a wrong one a misconfiguration; rights count when the
    page has been found.
    """
    levels = (pointer >> 3 & 7) + 1
    table = number_of(pointer & ADDRESS)
    rights = R | W | X
    used = []
    flags = pointer & EPTP_ACCESSED_DIRTY

    def violation():
        may = {place: ACCESSED for place in used} if flags else {}
        detail = RIGHT[kind] | rights << 3 | LINEAR_VALID | LINEAR_TRANSLATED
        return Outcome("violation", detail, gpa, {}, may)

    for level in range(levels, 0, -1):
        place = (table, index(gpa, level))
        entry = tables[table][place[1]]
        if not entry & (R | W | X):
            rights = 0
            return violation()
        if is_misconfigured(entry, level, machine):
            may = {place: ACCESSED for place in used} if flags else {}
            return Outcome("misconfiguration", 0, gpa, {}, may)
        used.append(place)
        rights &= entry
        if is_leaf(entry, level):
            break
        table = number_of(entry & ADDRESS)
    if not rights & RIGHT[kind]:
        return violation()
    offset = (1 << (3 + 9 * level)) - 1
    must = {}
    if flags:
        must = {place: ACCESSED for place in used}
        must[used[-1]] |= DIRTY if kind == WRITE else 0
    return Outcome("ok", 0, (entry & ADDRESS & ~offset) | (gpa & offset), must, {})
