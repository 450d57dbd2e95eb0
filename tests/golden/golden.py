#!/usr/bin/env python3
"""Tests of the tool as a program: what it prints, bytes for bytes.

    golden.py SUITE TOOL DATA

SUITE is corpus, replay, input, show, faults, random, costs or translate; TOOL the guestmem binary; DATA the folder tests/data. Ends with
the lines that scripts/run-tests counts.
"""
import json
import os
import random
import subprocess
import sys
import tarfile

TOOL = sys.argv[2]
DATA = sys.argv[3]
PASSED = []
FAILED = []


def run(arguments, text=None):
    """Exit code, stdout and stderr of the tool, with `text` on its stdin."""
    done = subprocess.run([TOOL] + arguments, input=text.encode() if text is not None else b"", check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def check(name, good, why=""):
    (PASSED if good else FAILED).append(name)
    if not good:
        print(f"{name}: {why}")


def first_difference(got, want):
    got, want = got.split("\n"), want.split("\n")
    for i, (a, b) in enumerate(zip(got + [None] * len(want), want + [None] * len(got))):
        if a != b:
            return f"line {i + 1}: printed {a!r}, expected {b!r}"
    return "equal"


# ---- the maps of real machines ----


def corpus():
    """name -> tree.txt, views.txt"""
    maps = {}
    with tarfile.open(os.path.join(DATA, "qemu-7.2-maps.tar.xz")) as archive:
        for member in archive.getmembers():
            if member.isfile():
                name, kind = member.name.rsplit("/", 1)
                maps.setdefault(name, {})[kind] = archive.extractfile(member).read().decode()
    return maps


def views_of_json(document):
    """views.txt again, from `flat --json`."""
    lines = [f"as {space['index']} {space['view']}" for space in document["spaces"]]
    for number, view in enumerate(document["views"]):
        root = -1 if view["root"] is None else view["root"]
        lines.append(f"view {number} {root} {len(view['ranges'])}")
        for item in view["ranges"]:
            flags = "".join(letter for letter, key in (("o", "readonly"), ("n", "nonvolatile"), ("R", "romd"))
                            if item[key])
            lines.append(f"range {item['start'][2:]} {item['size'][2:]} {item['region']} {item['offset'][2:]} "
                         f"{flags or '-'}")
    return "\n".join(lines) + "\n"


def suite_corpus():
    maps = corpus()
    check("corpus_all_machines_there", len(maps) == 240, f"{len(maps)} maps")
    for name, files in sorted(maps.items()):
        code, out, err = run(["flat", "-"], files["tree.txt"])
        check(f"corpus_{name}_equals_qemu", code == 0 and out == files["views.txt"],
              err or first_difference(out, files["views.txt"]))
    for name in ("x86_64-q35-30nvme-ran", "aarch64-virt-dimms", "x86_64-pc-pflash-cmdmode"):
        code, out, err = run(["flat", "--json", "-"], maps[name]["tree.txt"])
        check(f"corpus_{name}_as_json_says_the_same",
              code == 0 and views_of_json(json.loads(out)) == maps[name]["views.txt"], err)


# ---- scripts whose output was written by hand ----


def suite_replay():
    folder = os.path.join(DATA, "replay")
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".txt"):
            continue
        with open(os.path.join(folder, file[:-4] + ".out"), encoding="utf-8") as wanted:
            want = wanted.read()
        code, out, err = run(["replay", os.path.join(folder, file)])
        check(f"replay_{file[:-4]}_as_written_by_hand", code == 0 and out == want and err == "",
              err or first_difference(out, want))


# ---- what the tool does not take ----

GOOD = "region 0 0 10000000000000000 0 E system\nregion 1 0 1000 0 ETM ram\n"

# name, command, text after GOOD (which has two lines), the line that is wrong, a word of the message
BAD = [
    ("unknown_word", "flat", "frob 1\n", 3, "frob"),
    ("steps_in_flat", "flat", "views\n", 3, "views"),
    ("region_without_fields", "flat", "region\n", 3, "ID"),
    ("region_hex_id", "flat", "region a 0 0 0 E x\n", 3, "ID"),
    ("region_huge_id", "flat", "region 4294967296 0 0 0 E x\n", 3, "ID"),
    ("region_negative_addr", "flat", "region 2 -1 0 0 E x\n", 3, "ADDR"),
    ("region_prefixed_addr", "flat", "region 2 0x10 0 0 E x\n", 3, "ADDR"),
    ("region_huge_addr", "flat", "region 2 10000000000000000 0 0 E x\n", 3, "ADDR"),
    ("region_huge_size", "flat", "region 2 0 10000000000000001 0 E x\n", 3, "SIZE"),
    ("region_very_huge_size", "flat", "region 2 0 " + "f" * 100 + " 0 E x\n", 3, "SIZE"),
    ("region_huge_priority", "flat", "region 2 0 0 2147483648 E x\n", 3, "PRIO"),
    ("region_low_priority", "flat", "region 2 0 0 -2147483649 E x\n", 3, "PRIO"),
    ("region_empty_priority", "flat", "region 2 0 0 - E x\n", 3, "PRIO"),
    ("region_unknown_flag", "flat", "region 2 0 0 0 EX x\n", 3, "'X'"),
    ("region_flag_twice", "flat", "region 2 0 0 0 ETE x\n", 3, "'E'"),
    ("region_without_flags", "flat", "region 2 0 0 0\n", 3, "FLAGS"),
    ("region_two_contents", "flat", "region 2 0 0 0 ETMi x\n", 3, "FLAGS"),
    ("region_id_twice", "flat", "# comment\n\nregion 1 0 0 0 E x\n", 5, "region 1"),
    ("alias_of_nothing", "flat", "alias 0 7 0\n", 3, "region 7"),
    ("alias_by_nothing", "flat", "alias 7 0 0\n", 3, "region 7"),
    ("alias_twice", "flat", "alias 0 1 0\nalias 0 1 0\n", 4, "region 0"),
    ("alias_with_content", "flat", "alias 1 0 0\n", 3, "region 1"),
    ("alias_of_itself", "flat", "alias 0 0 0\n", 3, "region 0"),
    ("alias_circle", "flat", "alias 2 0 0\nregion 2 0 0 0 E x\nalias 0 2 0\n", 5, "itself"),
    ("alias_too_long", "flat", "alias 0 1 0 0\n", 3, "'0'"),
    ("sub_of_nothing", "flat", "sub 0 7\n", 3, "region 7"),
    ("sub_of_two", "flat", "region 2 0 0 0 E x\nsub 0 1\nsub 2 1\n", 5, "line 4"),
    ("sub_of_alias", "flat", "region 2 0 0 0 E x\nalias 2 0 0\nsub 2 1\n", 5, "region 2"),
    ("sub_of_itself", "flat", "sub 0 0\n", 3, "region 0"),
    ("sub_circle", "flat", "region 2 0 0 0 E x\nsub 0 2\nsub 2 0\n", 5, "ancestor"),
    ("sub_too_short", "flat", "sub 0\n", 3, "CHILD"),
    ("as_of_nothing", "flat", "as 7 x\n", 3, "region 7"),
    ("as_negative", "flat", "as -2 x\n", 3, "ROOT"),
    ("zero_byte", "flat", "as 0 a\0b\n", 3, "zero byte"),
    ("shifting_alias_cycle_is_no_error_but_a_still_one", "flat",
     "region 2 0 1000 0 E x\nalias 2 0 0\nsub 0 2\nas 0 x\n", 6, ""),
    ("map_line_after_a_step", "replay", "as 0 x\nviews\nsub 0 1\n", 5, "map"),
    ("unknown_step", "replay", "frob\n", 3, "frob"),
    ("set_unknown", "replay", "set 1 colour 1\n", 3, "colour"),
    ("set_neither", "replay", "set 1 enabled 2\n", 3, "'2'"),
    ("set_size_huge", "replay", "set 1 size 10000000000000001\n", 3, "too large"),
    ("set_priority_hex", "replay", "set 1 priority a\n", 3, "PRIORITY"),
    ("set_short", "replay", "views\nset 1 addr\n", 4, "VALUE"),
    ("watch_short", "replay", "watch a 0\n", 3, "PRIORITY"),
    ("watch_space", "replay", "watch a x 0\n", 3, "SPACE"),
    ("log_neither", "replay", "log 1 0 yes\n", 3, "yes"),
    ("log_short", "replay", "log all\n", 3, "CLIENT"),
    ("begin_long", "replay", "begin now\n", 3, "now"),
    ("write_huge", "replay", "write 0 0 10000000000000000\n", 3, "LEN"),
    ("fail_negative", "replay", "fail -1\n", 3, "N"),
    ("slots_max", "replay", "slots 0 1f\n", 3, "MAX"),
]


def suite_input():
    for name, command, text, line, word in BAD:
        code, out, err = run([command, "-"], GOOD + text)
        good = code == 2 and out == "" and err.startswith(f"stdin:{line}: ") and word in err and err.count("\n") == 1
        check(f"input_{name}_is_refused", good, f"exit {code}, {err!r}, stdout {out[:60]!r}")
    for name, arguments, word in (
            ("unknown_command", ["frob"], "frob"),
            ("no_file", ["flat"], "FILE"),
            ("two_files", ["flat", "a", "b"], "b"),
            ("unknown_option", ["show", "--frob", "a"], "--frob"),
            ("option_of_another_command", ["replay", "--json", "a"], "--json"),
            ("absent_file", ["replay", "/nonexistent/x"], "/nonexistent/x"),
            ("folder", ["flat", "/"], "/"),
            ("unknown_space", ["show", "--as", "frob", "-"], "frob")):
        code, out, err = run(arguments, GOOD)
        check(f"input_{name}_is_refused",
              code == 2 and out == "" and err.startswith("guestmem: ") and word in err and err.count("\n") == 1,
              f"exit {code}, {err!r}, stdout {out[:60]!r}")
    code, out, err = run(["flat", "-"], "")
    check("input_empty_map_is_empty", (code, out, err) == (0, "", ""), f"exit {code}, {out!r}, {err!r}")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([TOOL, "flat", "-"], input=(GOOD + "as 0 x\n").encode(), stdout=full,
                              stderr=subprocess.PIPE, check=False)
    check("input_full_disk_is_told", done.returncode == 1 and b"cannot write" in done.stderr, repr(done))


# ---- for people ----


def suite_show():
    code, out, _ = run([])
    check("show_tool_alone_says_what_to_do_first", code == 0 and "guestmem run" in out and "guestmem show" in out)
    code, out, _ = run(["--version"])
    check("show_version", code == 0 and out.startswith("guestmem ") and out.count("\n") == 1)
    for command in ("flat", "replay", "show"):
        code, out, err = run([command, "--help"])
        check(f"show_help_of_{command}", code == 0 and out.startswith(f"Usage: guestmem {command}") and err == "")
        check(f"show_help_{command}_is_the_same", run(["help", command]) == (code, out, err))
    _, out, _ = run(["show", "--help"])
    example = "\n".join(line[2:] for line in out.split("\n")
                        if line[2:].split(" ")[0] in ("region", "alias", "sub", "as")) + "\n"
    code, out, err = run(["show", "-"], example)
    want = """ADDRESS SPACES
  number  view  root  name
       0     0     0  memory

TREE of address space 0, memory
  id     first              last     size  prio  kind       flags  region
   0         0  ffffffffffffffff   16 EiB     0  container         system
   1         0           7ffffff  128 MiB     0  ram                 ram
   2     a0000             bffff  128 KiB     1  i/o                 vga
   4     e0000             fffff  128 KiB     1  alias               bios-below-1m = bios (3) from 20000
   3  fffc0000          ffffffff  256 KiB     0  rom        ro       bios

FLAT VIEW 0 of memory: 5 ranges
     first      last     size  kind  flags  id    from  region
         0     9ffff  640 KiB  ram           1       0  ram
     a0000     bffff  128 KiB  i/o           2       0  vga
     c0000     dffff  128 KiB  ram           1   c0000  ram
     e0000     fffff  128 KiB  rom   ro      3   20000  bios
    100000   7ffffff  127 MiB  ram           1  100000  ram
  fffc0000  ffffffff  256 KiB  rom   ro      3       0  bios

SLOTS of view 0: 5
  slot     first      last     size  flags  id    from  region
     0         0     9ffff  640 KiB          1       0  ram
     1     c0000     dffff  128 KiB          1   c0000  ram
     2     e0000     fffff  128 KiB  ro      3   20000  bios
     3    100000   7ffffff  127 MiB          1  100000  ram
     4  fffc0000  ffffffff  256 KiB  ro      3       0  bios
""".replace("memory: 5 ranges", "memory: 6 ranges")
    check("show_example_of_the_help", code == 0 and out == want, err or first_difference(out, want))
    text = (example + "region 5 10000 fff 0 TM a\x1bb\nregion 6 20000 0 0 ETM\nsub 0 5\nsub 0 6\nas 2 other\nas 2 7\n"
            "region 7 7800000 1000 -1 ETi mmu\nsub 0 7\n")
    code, out, _ = run(["show", "--as", "memory", "-"], text)
    check("show_states_and_names", code == 0 and "disabled  " in out and "hidden" in out and "a\\x1bb" in out
          and "~3.99 KiB" in out and "other" not in out and "\x1b" not in out, out)
    by_number = run(["show", "--as", "1", "-"], text)
    check("show_space_by_number", by_number == run(["show", "--as", "other", "-"], text) and by_number[0] == 0)
    code, out, _ = run(["show", "--json", "--as", "memory", "-"], example)
    document = json.loads(out)
    slots = [(slot["number"], slot["start"], slot["size"], slot["readonly"], slot["region"], slot["offset"])
             for slot in document["views"][0]["slots"]]
    check("show_json_has_slots", code == 0 and len(slots) == 5
          and slots[2] == (2, "0xe0000", "0x20000", True, 3, "0x20000"), repr(slots))
    check("show_json_has_regions", [region["kind"] for region in document["regions"]] ==
          ["container", "ram", "i/o", "rom", "alias"] and document["regions"][4]["target"] == 3)
    for name, files in sorted(corpus().items())[::12]:
        code, out, err = run(["show", "-"], files["tree.txt"])
        check(f"show_{name}", code == 0 and err == "" and out.count("\nFLAT VIEW ") ==
              files["views.txt"].count("\nview "), err)


# ---- each fallible step of a commit, failed once ----

FAULT_MAP = """region 0 0 10000000000000000 0 ER system
region 1 0 8000000 0 ETMR ram
region 2 a0000 20000 1 TR bar
region 3 fffc0000 40000 0 ETMRo bios
region 4 e0000 20000 1 ERo isa-bios
region 5 9000000 1000 0 ETOR flash
region 6 a000000 2000 0 ETMR more
region 7 b000000 4000 0 ER window
alias 4 3 20000
alias 7 1 4000
sub 0 1
sub 0 2
sub 0 3
sub 0 4
sub 0 5
sub 0 7
as 0 memory
as 0 cpu
as 7 dma
slots 0
watch a 0 0
watch b - 5
watch c 2 -3
log 1 0 on
log 3 1 on
write 0 3000 1000
write 0 2000000 3000
"""
FAULT_EDITS = ["set 2 enabled 1", "set 4 enabled 0", "set 3 addr ffff0000", "add 0 6", "del 0 1", "log 1 0 off",
               "log 6 0 on", "log all 2 on", "set 5 romd 0", "set 3 readonly 0", "set 1 size 4000000",
               "set 7 offset 5000", "set 7 priority -1", "watch d - 3", "watch d 2 3", "unwatch b", "slots 2",
               "begin\nset 2 enabled 1\nset 5 addr c000000\ndel 0 4\nadd 0 6\nset 1 addr 1000\nFAIL\ncommit"]


class Slots:
    """What a hypervisor would have after the operations of a script's output."""

    def __init__(self):
        self.slots = {}
        self.is_held = False
        self.wrong = None

    def apply(self, words):
        kind, number = words[1], words[2] if len(words) > 2 else None
        bad = False
        if kind == "hold" or kind == "release":
            bad = self.is_held == (kind == "hold")
            self.is_held = kind == "hold"
        elif kind == "create":
            start, size = int(words[3], 16), int(words[4], 16)
            bad = number in self.slots or size == 0 or any(
                start < int(other[0], 16) + int(other[1], 16) and int(other[0], 16) < start + size
                for other in self.slots.values())
            self.slots[number] = words[3:]
        elif kind == "delete":
            bad = self.slots.pop(number, None) is None
        else:
            bad = number not in self.slots
            if not bad:
                self.slots[number][2] = words[3]
        if bad and self.wrong is None:
            self.wrong = " ".join(words)

    def lines(self):
        return [" ".join(["slot", number] + self.slots[number]) for number in sorted(self.slots, key=lambda n: int(n, 16))]


def steps_of(out):
    """[(step, result, lines below)] of a replay."""
    steps = []
    for line in out.split("\n")[:-1]:
        if " -> " in line:
            steps.append((*line.rsplit(" -> ", 1), []))
        else:
            steps[-1][2].append(line)
    return steps


PROBES = "fail 0\nviews\nshow-slots\n"


def play(edit, count, again):
    """Run an edit whose `count`th fallible step fails; [steps, the slots that the operations made]."""
    armed = f"fail {count:x}\n"
    text = edit.replace("FAIL\n", armed) if "FAIL" in edit else armed + edit
    text = FAULT_MAP + text + "\n" + PROBES
    if again:
        text += edit.replace("FAIL\n", "") + "\n" + PROBES
    code, out, err = run(["replay", "-"], text + "dirty 1 0\n")
    return code, err, steps_of(out)


def probes_of(steps):
    return [below for step, _, below in steps if step in ("views", "show-slots")]


def pages_of(steps):
    pages = set()
    for line in steps[-1][2]:
        first, last = (int(word, 16) for word in line.split()[1:])
        pages.update(range(first, last + 1))
    return pages


def check_fault(edit, before, after, dirty, count):
    """Fail one step of the edit. Return a complaint or None, and whether the edit failed."""
    code, err, steps = play(edit, count, True)
    if code != 0 or err:
        return f"exit {code}: {err}", False
    slots = Slots()
    for step, _, below in steps:
        for line in below:
            if line.startswith("op "):
                slots.apply(line.split())
        if step == "show-slots" and "slots 2" not in edit and slots.lines() != below:
            return f"operations lead to {slots.lines()}, not to {below}", True
    if slots.wrong is not None and "slots 2" not in edit:
        return f"impossible operation: {slots.wrong}", True
    edit_end = edit.split("\n")[-1]
    results = [result for step, result, _ in steps if step == edit_end]
    got = probes_of(steps)
    if "log 1 0" not in edit and not dirty <= pages_of(steps):
        return f"dirty pages {sorted(dirty - pages_of(steps))} lost", True
    if results[0] == "0":
        return (None if got[:2] == after else "succeeded differently"), False
    if results[0] not in ("ENOMEM", "EIO"):
        return f"failed with {results[0]}", True
    if got[:2] != before:
        return f"failed, and left {got[:2]} where {before} was", True
    if results[1] != "0" or got[2:] != after:
        return f"the second try gave {results[1]}, {got[2:]}", True
    return None, True


def suite_faults():
    _, _, steps = play("fail 0", 0, False)
    before = probes_of(steps)
    dirty = pages_of(steps)
    for edit in FAULT_EDITS:
        _, _, steps = play(edit, 0, False)
        after = probes_of(steps)
        name = "faults_of_" + edit.split("\n")[-1].replace(" ", "_")
        complaint = None if dirty <= pages_of(steps) or "log 1 0" in edit else "dirty pages lost without a fault"
        count = 0
        successes = 0  # in a row: the library may do without some allocations
        while successes < 10 and complaint is None:
            count += 1
            complaint, has_failed = check_fault(edit, before, after, dirty, count)
            successes = 0 if has_failed else successes + 1
        # One at least fails; without audits a commit that changes no view takes what it needs from scratch memory.
        check(name, complaint is None and count > 10, f"fault {count}: {complaint}")


# ---- random edits of real maps: listeners and slots have to lead to the views ----


def random_edit(rng, regions, parents):
    ids = list(regions)
    region = rng.choice(ids)
    kind = rng.randrange(10)
    if kind < 4:
        return [f"set {region} enabled {rng.randrange(2)}"]
    if kind == 4:
        return [f"set {region} addr {rng.choice([0, 0x1000, 0xa0000, 0xfffc0000, rng.randrange(1 << 32)]):x}"]
    if kind == 5:
        return [f"set {region} priority {rng.randrange(-2, 3)}"]
    if kind == 6:
        return [f"set {region} readonly {rng.randrange(2)}", f"set {rng.choice(ids)} romd {rng.randrange(2)}"]
    if kind == 7:
        return [f"log {region} {rng.randrange(3)} {rng.choice(['on', 'off'])}"]
    if kind == 8 and parents:
        child = rng.choice(list(parents))
        return [f"del {parents[child]} {child}", f"add {rng.choice(ids)} {child}"]
    return [f"set {region} size {rng.choice([0, 0x1000, 0x1800, 0x20000, 1 << 30, 1 << 64]):x}"]


def merge(pieces):
    """Join (start, size, region, offset, flags) that continue each other."""
    merged = []
    for piece in sorted(pieces):
        if merged:
            start, size, region, offset, flags = merged[-1]
            if (start + size, region, offset + size, flags) == (piece[0],) + piece[2:]:
                merged[-1] = (start, size + piece[1], region, offset, flags)
                continue
        merged.append(piece)
    return merged


def slots_wanted(ranges, regions):
    """What of a view a hypervisor can map, in pages."""
    wanted = []
    for start, size, region, offset, flags in ranges:
        kind = regions[region]
        if "M" not in kind and not ("O" in kind and "R" in flags):
            continue
        first, end = (start + 4095) & ~4095, (start + size) & ~4095
        if first < end and (start - offset) % 4096 == 0:
            readonly = "o" if "o" in flags or "O" in kind else ""
            wanted.append((first, end - first, region, offset + first - start, readonly))
    return merge(wanted)


def parse_range(words):
    return (int(words[0], 16), int(words[1], 16), words[2], int(words[3], 16), words[4])


def follow(out, regions):
    """Follow a replay's output; a complaint if what was told does not lead to what is there."""
    told, slots, shown = set(), Slots(), None
    for step, _, below in steps_of(out):
        at_begin = set(told)
        for line in below:
            words = line.split()
            if words == ["w", "abort"]:
                told = at_begin  # nothing of what was told has happened
            elif words[0] == "w" and words[1] in ("add", "del", "nop"):
                piece = parse_range(words[3:])
                if (piece in told) != (words[1] != "add"):
                    return f"under {step!r}: {line!r} does not fit what was told before"
                if words[1] != "nop":
                    told ^= {piece}
            elif words[0] == "op":
                slots.apply(words)
        if step == "views":  # address space 0 is the first user of view 0
            first = next(i for i, line in enumerate(below) if line.startswith("view 0 ")) + 1
            count = int(below[first - 1].split()[3])
            shown = [parse_range(line.split()[1:]) for line in below[first:first + count]]
            if told != set(shown):
                return f"told but not shown {told - set(shown)}, shown but not told {set(shown) - told}"
        if step == "show-slots":
            if slots.lines() != below or slots.is_held or slots.wrong:
                return f"operations lead to {slots.lines()}, not to {below}; {slots.wrong}"
            have = merge((int(w[2], 16), int(w[3], 16), w[5], int(w[6], 16), w[4].replace("l", "").replace("-", ""))
                         for w in (line.split() for line in below))
            if have != slots_wanted(shown, regions):
                return f"slots {have}, wanted {slots_wanted(shown, regions)}"
    return None


def suite_random():
    seed = int(os.environ.get("GM_SEED", "1"))
    print(f"GM_SEED={seed}")
    maps = sorted(corpus().items())
    for number in range(40):
        rng = random.Random(seed * 1000 + number)
        name, files = rng.choice(maps)
        fields = [line.split(" ") for line in files["tree.txt"].split("\n")]
        regions = {line[1]: line[5] for line in fields if line[0] == "region"}
        parents = {line[2]: line[1] for line in fields if line[0] == "sub"}
        steps = ["watch w 0 0", "slots 0", "views", "show-slots"]
        for _ in range(40):
            edits = [edit for _ in range(rng.choice([1, 1, 3])) for edit in random_edit(rng, regions, parents)]
            if len(edits) > 1:
                edits = ["begin"] + edits + [rng.choice(["commit", "commit", "commit", "abort"])]
            if rng.randrange(4) == 0:
                edits.insert(-1, f"fail {rng.randrange(1, 60):x}")
            steps += edits + ["fail 0", "views", "show-slots"]
        code, out, err = run(["replay", "-"], files["tree.txt"] + "\n".join(steps) + "\n")
        complaint = follow(out, regions) if code == 0 else f"exit {code}: {err}"
        check(f"random_{number}_{name}", complaint is None and err == "", str(complaint)[:2000])


# ---- what a commit costs ----


def suite_costs():
    def stats_of(bars):
        lines = ["region 0 0 10000000000000000 0 ER system", "region 1 0 80000000 0 ETMR ram"]
        subs = ["sub 0 1"]
        for bar in range(bars):
            lines.append(f"region {bar + 2} {0xc0000000 + bar * 0x10000:x} 1000 1 ETR bar")
            subs.append(f"sub 0 {bar + 2}")
        lines += subs + ["as 0 memory", "slots 0", "watch w 0 0", "stats"]
        for state in (0, 1) * 3:
            lines += [f"set {bars // 2} enabled {state}", "stats"]
        _, out, _ = run(["replay", "-"], "\n".join(lines) + "\n")
        return [below[0] for step, _, below in steps_of(out) if step == "stats"][1:]

    few, many = stats_of(8), stats_of(500)
    check("costs_of_a_toggled_bar_do_not_grow_with_the_map", few == many and len(few) == 6, f"{few} {many}")
    check("costs_render_one_view", all(line.startswith("stats rendered-views 1 ") for line in few), repr(few))


# ---- translate: a machine with page tables of 4 levels, made here ----

TRANSLATE_MAP = """region 0 0 10000000000000000 0 E system
region 1 0 100000 0 ETM ram
region 2 fffff000 1000 0 ETMo rom
sub 0 1
sub 0 2
as 0 memory
"""


def translate_image():
    """PML4 at 1000, PDPT 2000, PD 3000, PT 4000; linear 5000 is GPA 7123's page, and so on."""
    image = bytearray(0x9000)

    def put(at, value):
        image[at:at + 8] = value.to_bytes(8, "little")

    put(0x1000, 0x2003 | 4)
    put(0x2000, 0x3003 | 4)
    put(0x2008, 0xc0000083)               # 1 GiB, supervisor's
    put(0x3000, 0x4003 | 4)
    put(0x4000 + 5 * 8, 0x7001 | 4 | 1 << 63)  # read-only, user, no-execute
    put(0x4000 + 6 * 8, 0xfffff001)           # the ROM
    put(0x4000 + 7 * 8, 0xabc00003)           # nothing there
    put(0x1008, 0x40000003)                    # a table beyond the image
    return bytes(image)


def suite_translate():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        machine = os.path.join(folder, "map")
        memory = os.path.join(folder, "image")
        with open(machine, "w", encoding="utf-8") as file:
            file.write(TRANSLATE_MAP)
        with open(memory, "wb") as file:
            file.write(translate_image())
        common = ["translate", "--map", machine, "--memory", memory, "--cr3", "1000"]

        code, out, err = run(common + ["5123"])
        wanted = """5123  supervisor read: translates
  level 4  entry 0000000000002007 at 1000  P W U
  level 3  entry 0000000000003007 at 2000  P W U
  level 2  entry 0000000000004007 at 3000  P W U
  level 1  entry 8000000000007005 at 4028  P U NX
  GPA      7123  page of 1000  read-only, user, no-execute
  region   ram + 7123
  slot     0  GPA 0  size 9000
"""
        check("page", (code, out, err) == (0, wanted, ""), first_difference(out, wanted) + err)

        code, out, _ = run(common + ["--write", "5123", "--user"])
        check("fault", code == 4 and "  error    7  P W U   CR2 5123\n" in out, out)
        code, out, _ = run(common + ["--fetch", "0x5123"])
        check("fetch", code == 4 and "  error    11  P I   CR2 5123\n" in out, out)
        code, out, _ = run(common + ["40001234"])
        check("large", code == 0 and "GPA      c0001234  page of 40000000" in out and "region   none" in out, out)
        code, out, _ = run(common + ["6008", "7000"])
        check("rom", code == 0 and "region   rom + 8\n" in out and out.count("slot     none") == 1, out)
        code, out, _ = run(common + ["8000000000"])
        check("lost", code == 4 and "a table lies where no memory is" in out, out)
        code, out, _ = run(common + ["800000000000"])
        check("canonical", code == 4 and "not canonical" in out, out)
        code, out, _ = run(common + ["--mode", "none", "7123"])
        check("no-paging", code == 0 and "GPA      7123  page of 1000  writable, user, executable" in out, out)
        code, out, _ = run(common + ["--host", "5123"])
        check("host", code == 0 and "  HVA      " in out and "  HPA      " in out, out)
        code, out, _ = run(common + ["--json", "5123", "9123"])
        document = json.loads(out)
        check("json", code == 4 and document[0]["gpa"] == "0x7123" and document[0]["region"] == "ram"
              and document[1]["error_code"] == 0 and len(document[0]["entries"]) == 4, out)
        for name, arguments in {
                "no-address": common, "no-cr3": common[:5] + ["5000"], "bad-number": common + ["xyz"],
                "bad-mode": common + ["--mode", "6", "0"], "bad-option": common + ["--nonsense", "0"],
                "no-image": ["translate", "--map", machine, "--memory", folder + "/none", "--cr3", "0", "0"],
                "image-is-folder": ["translate", "--map", machine, "--memory", folder, "--cr3", "0", "0"],
                "no-space": common + ["--as", "other", "0"], "phys": common + ["--maxphyaddr", "53", "0"]}.items():
            code, out, err = run(arguments)
            check(name, code == 2 and out == "" and err.count("\n") == 1, f"{code} {out!r} {err!r}")
        code, out, _ = run(["translate", "--help"])
        check("help", code == 0 and out.startswith("Usage: guestmem translate"), out)


def main():
    globals()["suite_" + sys.argv[1]]()
    print(f"[==========] {len(PASSED) + len(FAILED)} test(s) run.")
    print(f"[  PASSED  ] {len(PASSED)} test(s).")
    if FAILED:
        print(f"[  FAILED  ] {len(FAILED)} test(s), listed above.")
    sys.exit(1 if FAILED else 0)


main()
