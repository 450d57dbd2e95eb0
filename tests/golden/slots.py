#!/usr/bin/env python3
"""Tests of `guestmem slots`: recorded traces, random ones against a model, and broken ones.

    slots.py SUITE TOOL DATA

SUITE is recorded, input, model, long or fuzz; TOOL the guestmem binary; DATA the folder tests/data. Ends with the lines that
scripts/run-tests counts. `slots.py accept TOOL DATA` writes what the recorded traces' reports are to be, for review.
"""
import json
import os
import random
import re
import subprocess
import sys

TOOL = sys.argv[2]
TRACES = os.path.join(sys.argv[3], "trace")
PASSED = []
FAILED = []
PAGE = 0x1000
LAST_PAGE = (1 << 52) - 1
LOG, READONLY, MEMFD = 1, 2, 4
FLAG_NAMES = {LOG: "LOG_DIRTY_PAGES", READONLY: "READONLY", MEMFD: "GUEST_MEMFD"}


def run(arguments, data=b""):
    """Exit code, stdout and stderr of `guestmem slots`, with `data` on its stdin."""
    if isinstance(data, str):
        data = data.encode()
    done = subprocess.run([TOOL, "slots"] + arguments, input=data, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=240)
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


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


def recorded():
    return sorted(name for name in os.listdir(TRACES) if name.endswith((".strace", ".trace")))


def read(name):
    with open(os.path.join(TRACES, name), "rb") as file:
        return file.read()


def flag_text(flags):
    return "|".join(name for bit, name in FLAG_NAMES.items() if flags & bit) or "0"


# ---- the model: guest memory painted page by page ----


class Model:
    """One VM's slots, and which deletes took away memory that its commit brought back."""

    def __init__(self):
        self.slots = {}  # (as, number) -> (gpa, size, hva, flags)
        self.away = {}   # (as, page) -> (host page, fixed flags, the delete)
        self.commit = 0
        self.deletes = []  # [commit, line, bytes that came back]
        self.counts = dict.fromkeys(("created", "deleted", "moved", "flags", "same", "returned"), 0)
        self.slots_max = 0
        self.planned = []  # (as, page -> (host page, fixed flags))
        self.plan_created = 0
        self.plan_deleted = 0

    def overlaps(self, space, gpa, size, but=None):
        return any(key[0] == space and key != but and slot[0] < gpa + size and gpa < slot[0] + slot[1]
                   for key, slot in self.slots.items())

    def arrive(self, space, gpa, size, hva, flags):
        before = None  # the delete that the page below came back from
        for page in range(gpa // PAGE, (gpa + size) // PAGE):
            old = self.away.pop((space, page), None)
            now = (hva // PAGE + page - gpa // PAGE, flags & ~LOG)
            delete = old[2] if old is not None and old[:2] == now else None
            if delete is not None and delete[0] == self.commit:
                delete[2] += PAGE
            elif delete is not None and delete is not before:
                self.counts["returned"] += 1
            before = delete

    def change(self, line, space, number, flags, gpa, size, hva):
        """A call that KVM has done; what kind it was."""
        key = (space, number)
        old = self.slots.get(key)
        if size == 0:
            del self.slots[key]
            delete = [self.commit, line, 0]
            self.deletes.append(delete)
            for i in range(old[1] // PAGE):
                self.away[(space, old[0] // PAGE + i)] = (old[2] // PAGE + i, old[3] & ~LOG, delete)
            kind = "deleted"
        else:
            self.slots[key] = (gpa, size, hva, flags)
            kind = ("created" if old is None else "moved" if old[0] != gpa else "flags" if old[3] != flags else "same")
            if kind in ("created", "moved"):
                self.arrive(space, gpa, size, hva, flags)
        self.counts[kind] += 1
        self.slots_max = max(self.slots_max, len(self.slots))
        return kind

    def pages(self, space, first, last):
        """What is where: page -> (host page, fixed flags, the slot's number)."""
        return {page: (slot[2] // PAGE + page - slot[0] // PAGE, slot[3] & ~LOG, key[1])
                for key, slot in self.slots.items() if key[0] == space
                for page in range(max(first, slot[0] // PAGE), min(last, (slot[0] + slot[1]) // PAGE - 1) + 1)}

    def end_commit(self):
        """What guestmem's planner does: keeps slots that are all as they were, makes the rest anew."""
        for space in {key[0] for key in self.slots} | {plan[0] for plan in self.planned}:
            now = self.pages(space, 0, LAST_PAGE)
            for plan in [plan for plan in self.planned if plan[0] == space]:
                if any(now.get(page, ())[:2] != what for page, what in plan[1].items()):
                    self.planned.remove(plan)
                    self.plan_deleted += 1
            covered = {page for plan in self.planned if plan[0] == space for page in plan[1]}
            run = None
            for page in sorted(set(now) - covered):
                what = now[page]
                if run is None or page - 1 not in run or now[page - 1][2] != what[2]:
                    run = {}
                    self.planned.append((space, run))
                    self.plan_created += 1
                run[page] = what[:2]

    def unchanged(self):
        return {line: size for _, line, size in self.deletes if size > 0}


def report_of(data):
    code, out, err = run(["--json", "-"], data)
    return json.loads(out) if code == 0 else None, f"exit {code}: {err}"


def compare(document, vm, model):
    """A complaint about what the tool says of a VM, or None."""
    said = document["vms"][vm]
    slots = {(slot["as"], slot["slot"]): (int(slot["start"], 16), int(slot["size"], 16), int(slot["hva"], 16),
                                          slot["flags"] or "0") for slot in said["slots"]}
    want = {key: slot[:3] + (flag_text(slot[3]),) for key, slot in model.slots.items()}
    if slots != want:
        return f"slots {slots}, wanted {want}"
    for kind, count in model.counts.items():
        if said["counts"][kind] != count:
            return f"{said['counts'][kind]} {kind}, wanted {count}"
    if said["counts"]["slots_max"] != model.slots_max:
        return f"at most {said['counts']['slots_max']} slots, wanted {model.slots_max}"
    unchanged = {finding["line"]: int(finding["back_size"], 16) for finding in document["findings"]
                 if finding["what"] == "unchanged" and finding["vm"] == vm}
    if unchanged != model.unchanged() or said["counts"]["unchanged"] != len(unchanged):
        return f"unchanged {unchanged}, wanted {model.unchanged()}"
    model.end_commit()
    planned = (said["guestmem"]["created"], said["guestmem"]["deleted"])
    if planned != (model.plan_created, model.plan_deleted):
        return f"guestmem's planner {planned}, wanted {model.plan_created, model.plan_deleted}"
    if said["counts"]["odd"] != 0:
        return "odd calls in a trace that has everything"
    return None


# ---- recorded traces ----

REGION = re.compile(r"ioctl\((\d+).*KVM_SET_USER_MEMORY_REGION, \{slot=(\d+), flags=([A-Z_|0-9x]+), guest_phys_addr=(\w+), "
                    r"memory_size=(\d+), userspace_addr=(\w+)\}\) += 0\b")


def model_of_strace(text):
    """The model's view of an strace with one VM. Commits end where the thread runs the guest."""
    model = Model()
    last = None
    for number, line in enumerate(text.split("\n"), 1):
        thread = re.match(r"(?:\[pid +)?(\d+)", line)
        thread = thread.group(1) if thread else None
        call = REGION.search(line)
        if call:
            if thread != last:
                model.end_commit()
                model.commit += 1
                last = thread
            flags = sum(bit for bit, name in FLAG_NAMES.items() if "KVM_MEM_" + name in call.group(3))
            model.change(number, int(call.group(2)) >> 16, int(call.group(2)) & 0xffff, flags,
                         int(call.group(4), 0), int(call.group(5)), int(call.group(6), 0))
        elif "KVM_RUN" in line and thread == last:
            last = None
    return model


def suite_recorded():
    for name in recorded():
        with open(os.path.join(TRACES, name + ".out"), encoding="utf-8") as file:
            want = file.read()
        code, out, err = run(["--all", "--timeline", "-"], read(name))
        check(f"recorded_{name}_as_reviewed", code == 0 and err == "" and out == want,
              err or first_difference(out, want))
        short = run(["-"], read(name))[1]
        check(f"recorded_{name}_short_begins_the_same", len(short) < len(out) and
              out.startswith(short[:short.index("\nNOTABLE")] if "\nNOTABLE" in short else short), short)
    for name in recorded():
        if name.endswith(".strace"):
            document, why = report_of(read(name))
            why = compare(document, 0, model_of_strace(read(name).decode())) if document else why
            check(f"recorded_{name}_equals_the_model", why is None, why)
    document, _ = report_of(read("seabios.strace"))
    unchanged = [(finding["slot"], finding["start"], finding["size"], finding["back_size"])
                 for finding in document["findings"] if finding["what"] == "unchanged"]
    check("recorded_seabios_names_what_qemu_deletes_and_makes_again",
          document["vms"][0]["counts"]["calls"] == 35 and len(unchanged) == 10 and
          (0, "0x0", "0x8000000", "0x7fc0000") in unchanged and (2, "0xc0000", "0x7f40000", "0x7f40000") in unchanged,
          unchanged)
    document, _ = report_of(read("seabios-smp2.strace"))
    ran = [finding["running_vcpus"] for finding in document["findings"] if finding["what"] == "unchanged"]
    check("recorded_seabios_smp2_says_that_vcpu_1_ran", ran == [[], []] + [[1]] * 8, ran)
    document, _ = report_of(read("guestmem-run.strace"))
    vm = document["vms"][0]
    check("recorded_guestmem_deletes_nothing_that_did_not_change",
          vm["counts"]["unchanged"] == 0 and vm["counts"]["deleted"] == 23, vm)
    check("recorded_guestmem_does_what_its_planner_is_said_to",
          (vm["guestmem"]["created"], vm["guestmem"]["deleted"]) == (vm["counts"]["created"], vm["counts"]["deleted"]), vm)


def accept():
    for name in recorded():
        with open(os.path.join(TRACES, name + ".out"), "w", encoding="utf-8") as file:
            file.write(run(["--all", "--timeline", "-"], read(name))[1])


# ---- random traces ----


class Guestmem:
    """Writes guestmem's own format."""

    def __init__(self):
        self.lines = ["guestmem-trace 1"]
        self.now = 0

    def add(self, thread, what, call, result):
        self.now += 7
        end = "begin" if result is None else f"= {result}"
        self.lines.append(f"{self.now / 1e6:.6f} 100/{thread} {what} {call} {end}")
        return len(self.lines)

    def create(self, vm):
        self.add(100, "sys", f"KVM_CREATE_VM type=0 vm=vm{vm} fd={vm + 10}", vm + 10)

    def region(self, thread, vm, space, number, flags, gpa, size, hva, result):
        return self.add(thread, f"vm{vm}", f"KVM_SET_USER_MEMORY_REGION as={space} slot={number} flags={flag_text(flags)} "
                        f"gpa={gpa:#x} size={size:#x} hva={hva:#x}", result)

    def runs(self, thread, vm):
        self.add(thread, f"vm{vm}.vcpu0", "KVM_RUN", None)
        self.add(thread, f"vm{vm}.vcpu0", "KVM_RUN exit=MMIO", 0)


class Strace:
    """Writes as strace does; its options are chosen at random."""

    def __init__(self, rng):
        self.lines = []
        self.now = 1700000000000000
        self.clock = rng.choice(["", "-t", "-tt", "-ttt", "-r"])
        self.prefix = rng.choice(["{} ", "[pid {:5}] "])
        self.has_took = rng.randrange(2)
        self.has_paths = rng.randrange(2)
        self.rng = rng

    def add(self, thread, text, result):
        step = self.rng.randrange(1, 50)
        self.now += step
        seconds = self.now // 1000000
        day = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        time = {"": "", "-t": day + " ", "-tt": f"{day}.{self.now % 1000000:06} ", "-r": f"     0.{step:06} ",
                "-ttt": f"{seconds}.{self.now % 1000000:06} "}[self.clock]
        head = self.prefix.format(thread) + time
        tail = result + (" <0.000001>" if self.has_took else "")
        cut = text.find(", ", text.find(", ") + 1)
        if self.rng.randrange(5) == 0 and cut > 0:
            self.lines.append(f"{head}{text[:cut]} <unfinished ...>")
            self.lines.append(f"{self.prefix.format(777)}{time}read(3, \"ioctl(8, KVM_RUN, 0) = 0\", 832) = 832")
            self.lines.append(f"{head}<... ioctl resumed>{text[cut:]}) = {tail}")
        else:
            self.lines.append(f"{head}{text + ')':<39} = {tail}")
        return len(self.lines)

    def path(self, text):
        return f"<{text}>" if self.has_paths else ""

    def create(self, vm):
        self.add(100, f"ioctl(3{self.path('/dev/kvm<char 10:232>')}, KVM_CREATE_VM, 0",
                 f"{vm + 10}{self.path('anon_inode:kvm-vm')}")
        self.add(100, f"ioctl({vm + 10}{self.path('anon_inode:kvm-vm')}, KVM_CREATE_VCPU, 0",
                 f"{vm + 20}{self.path('anon_inode:kvm-vcpu:0')}")

    def region(self, thread, vm, space, number, flags, gpa, size, hva, result):
        names = "|".join("KVM_MEM_" + name for bit, name in FLAG_NAMES.items() if flags & bit) or "0"
        address = f"{gpa:#x}" if gpa else "0"
        return self.add(thread, f"ioctl({vm + 10}{self.path('anon_inode:kvm-vm')}, KVM_SET_USER_MEMORY_REGION, "
                        f"{{slot={space << 16 | number}, flags={names}, guest_phys_addr={address}, memory_size={size}, "
                        f"userspace_addr={hva:#x}}}", "0" if result == 0 else f"-1 {result} (No reason)")

    def runs(self, thread, vm):
        self.add(thread, f"ioctl({vm + 20}{self.path('anon_inode:kvm-vcpu:0')}, KVM_RUN, 0", "0")


def random_call(rng, model, space):
    """The arguments of one call, and what KVM answers."""
    kind = rng.randrange(10)
    key = rng.choice(list(model.slots)) if model.slots else None
    gpa, size = rng.randrange(64) * PAGE, rng.randrange(1, 24) * PAGE
    host = rng.randrange(3) << 32
    if key and kind < 4:
        old = model.slots[key]
        return key, old[3], old[0], 0, old[2], 0
    if key and kind == 4:
        old = model.slots[key]
        good = not model.overlaps(key[0], gpa, old[1], key)
        return key, old[3], gpa, old[1], old[2], 0 if good else "EEXIST"
    if key and kind == 5:
        old = model.slots[key]
        return key, old[3] ^ rng.randrange(2), old[0], old[1], old[2], 0
    number = rng.randrange(12)
    while (space, number) in model.slots:
        number += 1
    flags = rng.choice([0, 0, LOG, READONLY])
    hva = 0x7f0000000000 + host + gpa  # the same host memory comes back at the same place
    return (space, number), flags, gpa, size, hva, "EEXIST" if model.overlaps(space, gpa, size) else 0


def random_trace(rng, writer):
    """Fill the writer; a model for each VM."""
    models = [Model() for _ in range(rng.randrange(1, 3))]
    threads = [None] * len(models)
    for vm in range(len(models)):
        writer.create(vm)
    for _ in range(300):
        vm = rng.randrange(len(models))
        model = models[vm]
        thread = rng.choice([100, 100, 100, 101])
        if rng.randrange(8) == 0:
            writer.runs(thread, vm)
            if threads[vm] == thread:
                threads[vm] = None
            continue
        key, flags, gpa, size, hva, result = random_call(rng, model, rng.randrange(2))
        line = writer.region(thread, vm, *key, flags, gpa, size, hva, result)
        if result == 0:
            if threads[vm] != thread:
                model.end_commit()
                model.commit += 1
                threads[vm] = thread
            model.change(line, *key, flags, gpa, size, hva)
    return models


def suite_model():
    seed = int(os.environ.get("GM_SEED", "1"))
    print(f"GM_SEED={seed}")
    for number in range(120):
        rng = random.Random(seed * 1000 + number)
        writer = Guestmem() if number % 2 == 0 else Strace(rng)
        models = random_trace(rng, writer)
        document, why = report_of("\n".join(writer.lines) + "\n")
        if document is not None:
            why = next((why for why in (compare(document, vm, model) for vm, model in enumerate(models)) if why), None)
        check(f"model_{number}_{type(writer).__name__.lower()}", why is None, str(why)[:2000])


# ---- what is not taken ----

OWN = "guestmem-trace 1\n0.1 1/1 sys KVM_CREATE_VM type=0 vm=vm0 fd=8 = 8\n"
SET = "0.2 1/1 vm0 KVM_SET_USER_MEMORY_REGION as=0 slot=0 flags=0 gpa=0x0 size=0x1000 hva=0x7f0000000000 = 0\n"
STRACE = "12 ioctl(3, KVM_CREATE_VM, 0) = 8\n"
STRACE_SET = ("12 ioctl(8, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0, memory_size=4096, "
              "userspace_addr=0x7f0000000000}) = 0\n")

# name, text, the line that is wrong, a word of the message
BAD = [
    ("empty", "", 0, "empty"),
    ("blank", "\n\n", 2, "expected"),
    ("prose", "Dear Sir or Madam,\nI write.\n", 2, "guestmem-trace 1"),
    ("map", "region 0 0 10000000000000000 0 E system\n", 1, "strace"),
    ("long_prose", "word\n" * 20000, 10000, "neither"),
    ("binary", b"\x7fELF\x00\x01\x02\n", 1, "zero byte"),
    ("bytes", bytes(range(1, 256)) * 10 + b"\n", 11, "neither"),
    ("version", "guestmem-trace 2\n", 1, "version"),
    ("no_version", "guestmem-trace\n", 1, "version"),
    ("version_long", "guestmem-trace 1 2\n", 1, "'2'"),
    ("time", OWN + SET.replace("0.2", "x"), 3, "TIME"),
    ("time_negative", OWN + SET.replace("0.2", "-1"), 3, "TIME"),
    ("time_huge", OWN + SET.replace("0.2", "9" * 30), 3, "TIME"),
    ("pid", OWN + SET.replace("1/1", "1"), 3, "PID/TID"),
    ("pid_huge", OWN + SET.replace("1/1", "1/4294967296"), 3, "PID/TID"),
    ("object", OWN + SET.replace("vm0", "wm0"), 3, "OBJECT"),
    ("object_vcpu", OWN + SET.replace("vm0", "vm0.cpu1"), 3, "OBJECT"),
    ("object_dot", OWN + SET.replace("vm0", "vm0."), 3, "OBJECT"),
    ("object_wrong", OWN + SET.replace("vm0", "sys"), 3, "object"),
    ("call", OWN + SET.replace("KVM_SET_USER_MEMORY_REGION", "frob"), 3, "frob"),
    ("call_steering", OWN + SET.replace("KVM_SET", "KVM_\x1b[2J"), 3, "CALL"),
    ("text_steering", OWN + "0.2 1/1 vm0 notify by=\x1b[2J hva=0x0 size=0x1000 = 0\n", 3, "by"),
    ("field", OWN + SET.replace("slot=0", "slot"), 3, "slot"),
    ("field_upper", OWN + SET.replace("slot=0", "SLOT=0"), 3, "SLOT"),
    ("field_missing", OWN + SET.replace("hva=0x7f0000000000 ", ""), 3, "hva="),
    ("field_twice", OWN + SET.replace("slot=0", "slot=0 slot=1"), 3, "twice"),
    ("number", OWN + SET.replace("gpa=0x0", "gpa=zero"), 3, "gpa"),
    ("number_empty", OWN + SET.replace("gpa=0x0", "gpa="), 3, "gpa"),
    ("number_prefix", OWN + SET.replace("gpa=0x0", "gpa=0x"), 3, "gpa"),
    ("number_huge", OWN + SET.replace("gpa=0x0", "gpa=0x10000000000000000"), 3, "gpa"),
    ("number_decimal_huge", OWN + SET.replace("size=0x1000", "size=18446744073709551616"), 3, "size"),
    ("slot_huge", OWN + SET.replace("slot=0", "slot=65536"), 3, "16 bits"),
    ("flags", OWN + SET.replace("flags=0", "flags=LOG"), 3, "flags"),
    ("flags_bar", OWN + SET.replace("flags=0", "flags=READONLY|"), 3, "flags"),
    ("flags_huge", OWN + SET.replace("flags=0", "flags=0x100000000"), 3, "32 bits"),
    ("result_missing", OWN + SET.replace(" = 0", ""), 3, "RESULT"),
    ("result_empty", OWN + SET.replace(" = 0", " ="), 3, "RESULT"),
    ("result_negative", OWN + SET.replace(" = 0", " = -1"), 3, "RESULT"),
    ("result_unknown", OWN + SET.replace(" = 0", " = EFROB"), 3, "EFROB"),
    ("result_long", OWN + SET.replace(" = 0", " = 0 0"), 3, "'0'"),
    ("vm_twice", OWN + OWN[17:], 3, "vm0"),
    ("vm_name", OWN.replace("vm=vm0", "vm=0"), 2, "vmN"),
    ("truncated_within", OWN + SET[:60] + "\n" + SET, 3, ""),
    ("strace_truncated_within", STRACE + STRACE_SET[:90] + "\n" + STRACE_SET, 2, "KVM_SET_USER_MEMORY_REGION"),
    ("strace_no_address", STRACE + STRACE_SET.replace(", userspace_addr=0x7f0000000000", ""), 2, "incomplete"),
    ("strace_no_brace", STRACE + STRACE_SET.replace("})", ")"), 2, ""),
    ("strace_number", STRACE + STRACE_SET.replace("=4096", "=many"), 2, "incomplete"),
    ("strace_huge", STRACE + STRACE_SET.replace("=4096", "=" + "9" * 25), 2, "incomplete"),
    ("strace_slot_huge", STRACE + STRACE_SET.replace("slot=0", "slot=4294967296"), 2, "incomplete"),
    ("strace_pointer", STRACE + "12 ioctl(8, KVM_SET_USER_MEMORY_REGION, 0x7ffe00) = 0\n", 2, "guestmem kvm --trace"),
    ("strace_region2", STRACE + "12 ioctl(8, _IOC(_IOC_WRITE, 0xae, 0x49, 0xa0), 0x7ffe00) = 0\n", 2, "REGION2"),
]


def one_vm(data, **wanted):
    """The counts of a trace's only VM; a complaint if they are not as wanted."""
    document, why = report_of(data)
    if document is None:
        return why
    if len(document["vms"]) != 1:
        return f"{len(document['vms'])} VMs"
    counts = document["vms"][0]["counts"]
    return next((f"{key} {counts[key]}, wanted {value}" for key, value in wanted.items() if counts[key] != value), None)


GOOD = [
    ("cut_off_last_line", OWN + SET + SET[:50], {"created": 1}),
    ("strace_cut_off_last_line", STRACE + STRACE_SET + STRACE_SET[:80], {"created": 1}),
    ("comments", OWN + "# a comment\n\n" + SET, {"created": 1}),
    ("no_arguments_of_a_failure", OWN + "0.2 1/1 vm0 KVM_SET_USER_MEMORY_REGION = EFAULT\n", {"failed": 1}),
    ("end_of_the_address_space", OWN + SET.replace("gpa=0x0", "gpa=0xfffffffffffff000"), {"created": 1}),
    ("wrapping_range_of_a_failure", OWN + SET.replace("gpa=0x0", "gpa=0xfffffffffffff000").replace("0x1000", "0x2000")
     .replace("= 0", "= EINVAL"), {"failed": 1}),
    ("decimal_for_hexadecimal", OWN + SET.replace("size=0x1000", "size=4096"), {"created": 1}),
    ("strace_null", STRACE + "12 ioctl(8, KVM_SET_USER_MEMORY_REGION, NULL) = -1 EFAULT (Bad address)\n", {"failed": 1}),
    ("strace_raw_names", "12 ioctl(3, 0xae01, 0) = 8\n" + STRACE_SET.replace("KVM_SET_USER_MEMORY_REGION", "0x4020ae46")
     .replace("flags=0", "flags=0x2"), {"created": 1}),
    ("strace_verbose_names", "12 ioctl(3, 0xae01 /* KVM_CREATE_VM */, 0) = 8\n" + STRACE_SET.replace(
        "KVM_SET_USER_MEMORY_REGION", "0x4020ae46 /* KVM_SET_USER_MEMORY_REGION */")
     .replace("flags=0", "flags=0x2 /* KVM_MEM_READONLY */"), {"created": 1}),
    ("strace_without_pids", STRACE[3:] + STRACE_SET[3:], {"created": 1}),
    ("strace_of_names", STRACE.replace("12 ", "12<qemu (x) 1> ") + STRACE_SET.replace("12 ", "12<qemu (x) 1> "), {"created": 1}),
    ("strace_with_output_of_the_program", "hello\n" + STRACE + "KVM says: = 0\n" + STRACE_SET, {"created": 1}),
    ("strace_attached_late", STRACE_SET, {"created": 1}),
    ("strace_delete_of_what_was_there", STRACE_SET.replace("=4096", "=0"), {"deleted": 0, "odd": 1}),
    ("strace_overlap_that_cannot_be", STRACE + STRACE_SET + STRACE_SET.replace("slot=0", "slot=1"), {"created": 2, "odd": 1}),
    ("strace_died_within", STRACE + STRACE_SET.replace("= 0", "= ?") + "12 +++ killed by SIGKILL +++\n", {"unknown": 1}),
    ("strace_unfinished_for_ever", STRACE + STRACE_SET.replace(") = 0", " <unfinished ...>) = ?"), {"unknown": 1}),
    ("strace_resumed_from_nothing", STRACE + "12 <... ioctl resumed>, 0) = 0\n" + STRACE_SET, {"created": 1}),
    ("strace_timestamps_of_ns", STRACE.replace("12 ", "12 1700000000.123456789 "), {"calls": 0}),
    ("strace_times_of_both_kinds", STRACE.replace("12 ", "12 16:29:10.262152 (+     0.000064) "), {"calls": 0}),
    ("strace_instruction_pointers", STRACE.replace("12 ", "12 [00007fd000aa0000] [  16] "), {"calls": 0}),
]


def suite_input():
    for name, text, line, word in BAD:
        code, out, err = run(["-"], text)
        good = code == 2 and out == "" and err.startswith(f"stdin:{line}: ") and word in err and err.count("\n") == 1
        check(f"input_{name}_is_refused", good, f"exit {code}, {err!r}, stdout {out[:60]!r}")
    for name, text, wanted in GOOD:
        why = one_vm(text, **wanted)
        check(f"input_{name}_is_taken", why is None, why)
    for name, arguments in (("no_file", []), ("two_files", ["a", "b"]), ("unknown_option", ["--frob", "a"]),
                            ("absent_file", ["/nonexistent/x"]), ("folder", ["/"]), ("json_and_all", ["--json", "--all", "-"]),
                            ("json_and_timeline", ["--json", "--timeline", "-"])):
        code, out, err = run(arguments, OWN)
        check(f"input_{name}_is_refused", code == 2 and out == "" and err.startswith("guestmem: ") and
              err.count("\n") == 1, f"exit {code}, {err!r}, stdout {out[:60]!r}")
    code, out, _ = run(["--help"])
    check("input_help", code == 0 and out.startswith("Usage: guestmem slots"), out)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([TOOL, "slots", "-"], input=(OWN + SET).encode(), stdout=full, stderr=subprocess.PIPE,
                              check=False)
    check("input_full_disk_is_told", done.returncode == 1 and b"cannot write" in done.stderr, repr(done))
    suite_processes()


def suite_processes():
    """Whose descriptor is meant."""
    text = STRACE + STRACE_SET + STRACE + STRACE_SET
    document, why = report_of(text)
    check("input_descriptor_reused_unseen_is_another_vm", document and
          [vm["counts"]["created"] for vm in document["vms"]] == [1, 1] and
          [vm["closed"] for vm in document["vms"]] == [True, False], why)
    text = STRACE + STRACE_SET + "12 dup(8) = 9\n12 close(8) = 0\n" + STRACE_SET.replace("(8", "(9").replace("slot=0", "slot=1") \
        .replace("addr=0,", "addr=0x1000,") + "12 close(9) = 0\n"
    why = one_vm(text, created=2, odd=0)
    check("input_duplicate_is_the_same_vm", why is None and report_of(text)[0]["vms"][0]["closed"], why)
    text = (STRACE + "12 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD}, 88) = 13\n" + STRACE_SET.replace("12 ", "13 ") +
            "12 fork() = 14\n" + STRACE.replace("12 ", "14 ").replace("= 8", "= 9") +
            STRACE_SET.replace("12 ", "14 ").replace("(8", "(9"))
    document, why = report_of(text)
    check("input_threads_share_and_processes_do_not", document and
          [(vm["pid"], vm["counts"]["created"]) for vm in document["vms"]] == [(12, 1), (14, 1)] and
          not document["guessed_processes"], document or why)
    text = STRACE + STRACE.replace("12 ", "22 ") + STRACE_SET.replace("12 ", "23 ")
    document, why = report_of(text)
    check("input_thread_without_clone_is_a_guess", document and document["guessed_processes"] and
          len(document["vms"]) == 2, document or why)
    check("input_guess_is_told", "is a guess" in run(["-"], text)[1])
    text = ("13 ioctl(11<anon_inode:kvm-vcpu:5>, KVM_RUN, 0) = 0\n" + STRACE_SET +
            "14 ioctl(11<anon_inode:kvm-vcpu:5>, KVM_RUN, 0 <unfinished ...>\n" + "13 ioctl(12, KVM_RUN <unfinished ...>\n" +
            STRACE_SET.replace("4096", "0") + STRACE_SET + "15 ioctl(3, KVM_SET_USER_MEMORY_REGION, 0) = -1 ENOTTY (x)\n")
    document, why = report_of(text)
    check("input_attached_late_finds_vcpus", document and len(document["vms"]) == 1 and
          document["findings"][0]["running_vcpus"] == [5, 1], document or why)
    text = STRACE + STRACE_SET.replace("slot=0", "slot=65539")
    document, why = report_of(text)
    check("input_address_space_is_in_the_upper_bits", document and
          [(slot["as"], slot["slot"]) for slot in document["vms"][0]["slots"]] == [(1, 3)], document or why)
    text = (OWN + SET + "0.3 1/1 - fork child=2 = 2\n" + SET.replace("1/1", "2/2").replace("= 0\n", "= EIO\n") +
            "0.4 2/2 - exec program=/bin/x = 0\n" + OWN[17:].replace("1/1", "2/2") + SET.replace("1/1", "2/2") +
            "0.5 2/2 vm0 KVM_CREATE_VM type=0 = EINVAL\n0.6 1/1 - exit code=0 = 0\n" + OWN[17:])
    document, why = report_of(text)
    check("input_child_has_its_parents_vms_until_it_runs_another_program", document and
          [(vm["pid"], vm["counts"]["created"], vm["counts"]["failed"], vm["closed"]) for vm in document["vms"]] ==
          [(1, 1, 1, True), (2, 1, 0, False), (1, 0, 0, False)], document or why)
    text = STRACE + STRACE_SET + "12 execve(\"/bin/x\", [\"x\"], 0x1 /* 2 vars */) = 0\n" + STRACE + STRACE_SET
    document, why = report_of(text)
    check("input_strace_of_exec_closes", document and [vm["closed"] for vm in document["vms"]] == [True, False], document or why)
    midnight = STRACE.replace("12 ", "12 23:59:59.900000 ") + STRACE_SET.replace("12 ", "12 00:00:00.100000 ")
    document, why = report_of(midnight)
    check("input_midnight_passes", document and document["time_us"] == 200000, document or why)


# ---- long traces ----


def measure(pieces):
    """The report as JSON and the peak of memory in KiB, of a trace that is made while it is read."""
    child = subprocess.Popen([TOOL, "slots", "--json", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for piece in pieces:
        child.stdin.write(piece.encode())
    child.stdin.close()
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    return (json.loads(out) if status == 0 else None), usage.ru_maxrss


def own_region(number, gpa, size, vm=0):
    return (f"1.0 1/1 vm{vm} KVM_SET_USER_MEMORY_REGION as=0 slot={number} flags=0 gpa={gpa:#x} size={size:#x} "
            f"hva={0x7f0000000000 + gpa:#x} = 0\n")


def suite_long():
    run_guest = "13 ioctl(9, KVM_RUN, 0) = 0\n" * 1000
    start = STRACE + STRACE_SET + "12 ioctl(8, KVM_CREATE_VCPU, 0) = 9\n"
    _, small = measure([start, run_guest])
    document, large = measure([start] + [run_guest] * 100)
    check("long_trace_of_runs_is_streamed", document["vms"][0]["counts"]["runs"] == 100000 and large < small + 8192,
          f"{small} KiB, then {large} KiB, {document['vms'][0]['counts']}")
    again = own_region(0, 0x1000, 0) + own_region(0, 0x1000, 0x1000)
    document, large = measure([OWN, own_region(0, 0x1000, 0x1000)] + [again * 1000] * 100)
    counts = document["vms"][0]["counts"]
    check("long_commit_is_followed_and_findings_are_limited", counts["unchanged"] == counts["deleted"] == 100000 and
          counts["commits"] == 1 and len(document["findings"]) == 10000 and document["findings_left_out"] == 90000 and
          document["vms"][0]["guestmem"]["deleted"] == 0, counts)
    number = 8000
    document, _ = measure([OWN] + [own_region(i, i << 13, 0x1000) for i in range(number)] +
                          [own_region(i, i << 13, 0) for i in range(number)] +
                          [own_region(number - 1 - i, i << 13, 0x1000) for i in range(number)])
    vm = document["vms"][0]
    check("long_list_of_slots", len(vm["slots"]) == vm["counts"]["unchanged_whole"] == number and vm["counts"]["odd"] == 0 and
          vm["guestmem"]["created"] == number and vm["guestmem"]["deleted"] == 0, vm["counts"])
    text = OWN + "".join(OWN[17:].replace("vm0", f"vm{i}") + own_region(0, 0, 0x1000, i) for i in range(1, 25))
    short, everything = run(["-"], text)[1], run(["--all", "-"], text)[1]
    check("long_list_of_vms_is_cut_short", short.count("\nVM ") == 20 and "5 more VMs" in short and
          everything.count("\nVM ") == 25, short[:300])
    text = OWN + "".join(own_region(i, i << 13, 0x1000) + own_region(i, i << 14, 0x1000).replace("= 0", "= EEXIST")
                         for i in range(50))
    short, everything = run(["-"], text)[1], run(["--all", "-"], text)[1]
    check("long_lists_are_cut_short", short.count("EEXIST") == 41 and short.count("10 more; --all lists them") == 2 and
          everything.count("KVM_SET_USER_MEMORY_REGION: EEXIST") == 50, short[:300])


# ---- broken traces: an answer, whatever is read ----


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        place = rng.randrange(len(data))
        kind = rng.randrange(7)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[place:place + rng.randrange(1, 80)]
        elif kind == 2:
            data[place:place] = data[place:place + rng.randrange(1, 300)]
        elif kind == 3:
            data[place:place] = rng.choice([b"9" * 20, b"0x", b"\n", b"|", b"<", b">", b"{", b"}", b")", b" = ", b"-", b'"',
                                            b" <unfinished ...>", b"= ?", b"/*", b"18446744073709551615"])
        elif kind == 4:
            lines = data.split(b"\n")
            a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[a], lines[b] = lines[b], lines[a]
            data = bytearray(b"\n".join(lines))
        elif kind == 5:
            digits = [m.start() for m in re.finditer(rb"[0-9a-f]", bytes(data[place:place + 200]))]
            for at in digits[:3]:
                data[place + at] = rng.choice(b"0123456789abcdef")
        else:
            lines = data.split(b"\n")
            a = rng.randrange(len(lines))
            del lines[a:a + rng.randrange(1, 5)]
            data = bytearray(b"\n".join(lines))
        if len(data) == 0:
            return b""
    return bytes(data[:rng.randrange(1, len(data) + 1)] if rng.randrange(10) == 0 else data)


def suite_fuzz():
    seed = int(os.environ.get("GM_SEED", "1"))
    count = int(os.environ.get("GM_FUZZ", "300"))
    print(f"GM_SEED={seed} GM_FUZZ={count}")
    sources = [read(name) for name in recorded()]
    taken = 0
    complaint = None
    for number in range(count):
        rng = random.Random(seed * 1000000 + number)
        data = mutate(rng, rng.choice(sources))
        options = rng.choice([["--json"], ["--all", "--timeline"], []])
        code, out, err = run(options + ["-"], data)
        taken += code == 0
        if code == 0 and (err != "" or out == "" or (options == ["--json"] and "vms" not in json.loads(out))):
            complaint = f"mutation {number}: exit 0 with {err!r}"
        elif code == 2 and (out != "" or err.count("\n") != 1 or not err.startswith("stdin:")):
            complaint = f"mutation {number}: exit 2 with {err!r}, stdout {out[:60]!r}"
        elif code not in (0, 2):
            complaint = f"mutation {number}: exit {code}: {err[-3000:]}"
        if complaint:
            break
    check("fuzz_every_answer_is_a_report_or_a_refusal", complaint is None, complaint)
    check("fuzz_some_mutations_are_taken_and_some_refused", complaint or count // 20 < taken < count, f"{taken} of {count}")


def main():
    if sys.argv[1] == "accept":
        accept()
        return
    globals()["suite_" + sys.argv[1]]()
    print(f"[==========] {len(PASSED) + len(FAILED)} test(s) run.")
    print(f"[  PASSED  ] {len(PASSED)} test(s).")
    if FAILED:
        print(f"[  FAILED  ] {len(FAILED)} test(s), listed above.")
    sys.exit(1 if FAILED else 0)


main()
