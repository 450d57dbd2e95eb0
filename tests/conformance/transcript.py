"""Transcripts of `guestmem soft`: taking them apart, and comparing them with what Linux answered.

Every line has to be equal, but for what PERMITTED lists, each with its reason.
"""
import re

PAGE = 0x1000
ALIAS = 0x8000000000
GVA_END = 0x140000000
U64 = (1 << 64) - 1


def request_of(line):
    """The line of the script that a line of a transcript answers."""
    return line if line.startswith("#") else line.split(" ->")[0]


def script_of(transcript):
    return [request_of(line) for line in transcript]


def result_of(line):
    return line.split(" ->", 1)[1].strip() if " ->" in line else ""


def pages_of(result):
    """The page numbers of a `log` that went well."""
    pages = set()
    for word in result.split()[1:]:
        first, _, last = word.partition("-")
        pages.update(range(int(first, 16), int(last or first, 16) + 1))
    return pages


class ReadPages:
    """Which pages of which slots the guest has read, so that Linux may say that they are dirty.

    With shadow page tables that needs a writable mapping; with nested ones, which Linux fills for itself, any read will do.
    """

    def __init__(self, is_shadow):
        self.is_shadow = is_shadow
        self.slots = {}  # number -> (first page, pages)
        self.read = {}  # number -> the slot's pages that were read since its last log
        self.is_manual = False

    def _places(self, address, size):
        """(slot, page in it) of what the guest accesses."""
        if address >= GVA_END:
            return
        for page in range(address // PAGE, (address + size - 1) // PAGE + 1):
            for number, (first, count) in self.slots.items():
                if first <= page < first + count:
                    yield number, page - first

    def _note(self, address, size):
        if not self.is_shadow and address >= ALIAS:
            address -= ALIAS
        for number, page in self._places(address, size):
            self.read[number].add(page)

    def _written(self, address, size):
        """Now they have to be dirty on both."""
        for number, page in self._places(address, size):
            self.read[number].discard(page)

    def _set(self, numbers):
        number, _, gpa, size = numbers[:4]
        if size == 0:
            self.slots.pop(number, None)
            self.read.pop(number, None)
            return
        # A move takes the log with it; a change of flags leaves everything mapped.
        self.slots[number] = (gpa // PAGE, size // PAGE)
        self.read.setdefault(number, set())

    def may_be_dirty(self, number):
        return self.read.get(number, set())

    def follow(self, line):
        """Take notice of a line of the real transcript, after it was compared."""
        words = request_of(line).split()
        if not words or words[0] == "#":
            return
        numbers = [int(word, 16) for word in words[1:]]
        word = words[0]
        if word == "vm":
            self.__init__(self.is_shadow)
        elif word in ("set", "seta") and result_of(line) == "0":
            self._set(numbers)
        elif word == "cap" and numbers[0] == 0xa8 and result_of(line) == "0":
            self.is_manual = numbers[1] != 0
        elif word == "log" and result_of(line).startswith("0") and not self.is_manual:
            self.read[numbers[0]] = set()
        elif word == "r":
            self._note(numbers[1], numbers[0])
        elif word == "ra":
            self._note((numbers[1] + ALIAS) & U64, numbers[0])
        elif word == "x":
            self._note(numbers[0], 16)
        elif word == "movs" and numbers[2] != 0:
            self._note(numbers[1], numbers[2])
            if result_of(line) == "hlt":
                self._written(numbers[0], numbers[2])
        elif word == "add" and "hlt" not in result_of(line):
            self._note(numbers[0], 8)  # it loads before it finds that it cannot store
        elif word in ("w", "add") and result_of(line) == "hlt":
            self._written(numbers[-2], numbers[0] if word == "w" else 8)


# What may differ: a name, when (the line of the file or script, real's line, ours, the pages read), and why.
PERMITTED = [
    ("read_reported_as_dirty",
     lambda place, real, ours, reads:
     real.startswith("log ") and result_of(real).startswith("0") and result_of(ours).startswith("0")
     and pages_of(result_of(ours)) < pages_of(result_of(real))
     and pages_of(result_of(real)) - pages_of(result_of(ours)) <= reads.may_be_dirty(int(real.split()[1], 16)),
     "Linux maps a page writable when the guest first reads or executes it through a writable page table entry, and reports "
     "it dirty with that; the software KVM reports only what was written"),
]


def compare(real, ours, place="", is_shadow=True):
    """(differences, permitted): a list of texts, and name -> how often.

    Both are lists of lines. The real one's KVM uses shadow page tables, or may use nested ones.
    """
    differences = []
    permitted = {}
    reads = ReadPages(is_shadow)
    script = ""
    for number, (real_line, our_line) in enumerate(zip(real, ours), 1):
        if real_line.startswith("# script "):
            script = real_line[2:]
        if real_line != our_line:
            key = (place, request_of(real_line))
            name = next((name for name, rule, _ in PERMITTED
                         if request_of(real_line) == request_of(our_line) and rule(key, real_line, our_line, reads)), None)
            if name:
                permitted[name] = permitted.get(name, 0) + 1
            else:
                differences.append(f"{script or place}, line {number}: Linux says {shorten(real_line)}, "
                                   f"ours {shorten(our_line)}")
        reads.follow(real_line)
    if len(real) != len(ours):
        differences.append(f"{place}: {len(real)} lines from Linux, {len(ours)} from ours")
    return differences, permitted


def shorten(line):
    line = re.sub(r"\s+", " ", line)
    return repr(line if len(line) < 300 else line[:300] + "...")
