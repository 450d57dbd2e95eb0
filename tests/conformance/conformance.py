#!/usr/bin/env python3
"""Compare the software KVM with real ones, by scripts of `guestmem soft`.

    conformance.py SUITE TOOL ROOT

SUITE is recorded (what Linux 6.1 answered, from tests/data/soft), input (what `guestmem soft` does not take), host (random
scripts, on this machine's /dev/kvm and on the software KVM) or nested (many more, on Linux in scripts/lab). TOOL is the
guestmem binary, ROOT the source tree. GM_SEED and GM_PROGRAMS say which random scripts, and how many. Ends with the lines that
scripts/run-tests counts; exit code 77: skipped.
"""
import concurrent.futures
import lzma
import os
import subprocess
import sys
import tempfile
import time

import borders
import generate
import transcript

TOOL = os.path.abspath(sys.argv[2])
ROOT = os.path.abspath(sys.argv[3])
DATA = os.path.join(ROOT, "tests", "data", "soft")
LAB = os.path.join(ROOT, "scripts", "lab", "run")
SEED = int(os.environ.get("GM_SEED", "1"))
SKIPPED = 77
SHOWN_MAX = 20
HOST_PROGRAMS = 400
NESTED_PROGRAMS = 12000
NESTED_BATCH = 1500  # in one boot
PASSED = []
FAILED = []


def check(name, good, why=""):
    (PASSED if good else FAILED).append(name)
    if not good:
        print(f"{name}: {why}", flush=True)


def skip(why):
    print(f"conformance: skipped: {why}")
    sys.exit(SKIPPED)


def soft(arguments, text):
    """Exit code, lines of stdout, and stderr of `guestmem soft`."""
    done = subprocess.run([TOOL, "soft"] + arguments, input=text.encode(), check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=1800)
    return done.returncode, done.stdout.decode().split("\n")[:-1], done.stderr.decode()


def check_lines(name, real, ours, place="", is_shadow=True):
    """One test: ours are Linux's lines, but for what is permitted. Return how often that was needed."""
    differences, permitted = transcript.compare(real, ours, place, is_shadow)
    why = "\n  ".join([f"{len(differences)} differences"] + differences[:SHOWN_MAX])
    check(name, not differences, why)
    return permitted


# ---- what Linux answered once ----


def suite_recorded():
    for file in sorted(os.listdir(DATA)):
        name = file.split(".")[0]
        opener = {".real": open, ".xz": lzma.open}.get(os.path.splitext(file)[1])
        if opener is None:
            continue
        with opener(os.path.join(DATA, file), "rt") as lines:
            real = lines.read().split("\n")[:-1]
        code, ours, err = soft(["-"], "\n".join(transcript.script_of(real)) + "\n")
        check(f"recorded_{name}_runs", code == 0 and err == "", f"exit {code}: {err}")
        permitted = check_lines(f"recorded_{name}_equals_linux", real, ours, name)
        print(f"{name}: {len(real)} lines, permitted differences: {permitted}")


# ---- what the tool does not take ----

# name, text, the line that is wrong, a word of the message
BAD = [
    ("unknown_word", "vm\nfrob 1\n", 2, "frob"),
    ("nothing_before_vm", "# text\nset 0 0 0 1000 0\n", 2, "vm"),
    ("later_line_is_wrong", "vm\nr 8 0\nr 8\n", 3, "GPA"),
    ("set_without_off", "vm\nset 0 0 0 1000\n", 2, "OFF"),
    ("set_with_more", "vm\nset 0 0 0 1000 0 0\n", 2, "'0'"),
    ("slot_of_33_bits", "vm\nset 100000000 0 0 1000 0\n", 2, "SLOT"),
    ("flags_of_33_bits", "vm\nset 0 100000000 0 1000 0\n", 2, "FLAGS"),
    ("gpa_of_65_bits", "vm\nset 0 0 10000000000000000 1000 0\n", 2, "GPA"),
    ("prefix", "vm\nset 0 0 0x1000 1000 0\n", 2, "GPA"),
    ("negative", "vm\nset 0 0 -1 1000 0\n", 2, "GPA"),
    ("load_of_3_bytes", "vm\nr 3 0\n", 2, "1, 2, 4 or 8"),
    ("load_of_no_bytes", "vm\nra 0 0\n", 2, "1, 2, 4 or 8"),
    ("store_of_16_bytes", "vm\nw 10 0 0\n", 2, "1, 2, 4 or 8"),
    ("pages_of_no_slot", "vm\nlog 0 80000001\n", 2, "PAGES"),
    ("clear_of_33_bits", "vm\nclear 0 0 100000000\n", 2, "N"),
    ("clear_with_a_bad_word", "vm\nclear 0 0 40 xyz\n", 2, "word"),
    ("clear_with_too_many_words", "vm\nclear 0 0 40" + " 0" * 5000 + "\n", 2, "words"),
    ("cap_of_33_bits", "vm\ncap 100000000 0\n", 2, "CAP"),
    ("host_store_past_the_end", "vm\nhw 1ffff9 0\n", 2, "OFF"),
    ("host_load_past_the_end", "vm\nhr 200000\n", 2, "OFF"),
    ("discard_past_the_end", "vm\nmadv 1ff000 1001\n", 2, "SIZE"),
    ("protect_past_the_end", "vm\nmprot 200001 0 0\n", 2, "OFF"),
    ("protect_with_execute", "vm\nmprot 0 1000 4\n", 2, "PROT"),
    ("protect_write_only", "vm\nmprot 0 1000 2\n", 2, "PROT"),
    ("sum_with_more", "vm\nsum 1\n", 2, "'1'"),
    ("zero_byte", "vm\n\0\n", 2, "zero byte"),
]


def run_without_kvm():
    """Exit code, stdout and stderr of `soft --accel kvm` where there is no /dev/kvm; None: that cannot be arranged."""
    hide = 'mount -t tmpfs tmpfs /dev && echo hidden >&2 && exec "$0" soft --accel kvm -'
    done = subprocess.run(["unshare", "-m", "sh", "-c", hide, TOOL], input=b"vm\n", check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    said = done.stderr.decode()
    return (done.returncode, done.stdout.decode(), said.removeprefix("hidden\n")) if said.startswith("hidden\n") else None


def suite_input():
    for name, text, line, word in BAD:
        code, out, err = soft(["-"], text)
        check(f"input_{name}_is_told", code == 2 and out == [] and err.startswith(f"stdin:{line}: ") and word in err
              and err.count("\n") == 1, f"exit {code}, {out}, {err!r}")
    for name, arguments in (("no_file", []), ("two_files", ["a", "b"]), ("absent_file", ["/nonexistent"]),
                            ("unknown_option", ["--json", "-"]), ("unknown_accel", ["--accel", "xen", "-"]),
                            ("accel_without_value", ["--accel"])):
        code, out, err = soft(arguments, "")
        check(f"input_{name}_is_told", code == 2 and out == [] and err.startswith("guestmem: ") and err.count("\n") == 1,
              f"exit {code}, {out}, {err!r}")
    code, out, err = soft(["--help"], "")
    check("input_help_is_printed", code == 0 and out[0].startswith("Usage: guestmem soft") and err == "", err)
    hidden = run_without_kvm()
    if hidden:
        code, out, err = hidden
        check("input_without_dev_kvm_is_told", code == 3 and out == "" and "/dev/kvm does not open" in err
              and "software KVM" in err and err.count("\n") == 1, f"exit {code}, {out}, {err!r}")
    code, out, err = soft(["-"], "# only\n\n  # text  \n")
    check("input_comments_are_echoed", (code, out, err) == (0, ["# only", "# text"], ""), f"{code}, {out}, {err}")
    code, out, err = soft(["-"], "")
    check("input_empty_script_is_fine", (code, out, err) == (0, [], ""), f"{code}, {out}, {err}")


# ---- random scripts ----


def make_scripts(first, count, is_host):
    return "".join("\n".join(generate.script(SEED, number, is_host)) + "\n" for number in range(first, first + count))


def suite_host():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        skip("/dev/kvm does not open here")
    count = int(os.environ.get("GM_PROGRAMS", HOST_PROGRAMS))
    print(f"GM_SEED={SEED} GM_PROGRAMS={count}")
    text = make_scripts(0, count, True)
    results = {}
    for accel in ("kvm", "soft"):
        code, lines, err = soft(["--accel", accel, "-"], text)
        check(f"host_{accel}_runs", code == 0 and err == "", f"exit {code}: {err}")
        results[accel] = lines
    permitted = check_lines("host_random_scripts_equal_dev_kvm", results["kvm"], results["soft"], is_shadow=False)
    print(f"{count} programs, {len(results['kvm'])} lines, permitted differences: {permitted}")


def run_batch(first, count):
    """Of random scripts, or (count 0) of borders.py: Linux and ours, exit code and stderr. None: the lab does not run."""
    text = make_scripts(first, count, False) if count else "".join("\n".join(lines) + "\n" for lines in borders.scripts())
    with tempfile.TemporaryDirectory(prefix="guestmem-conformance-") as folder:
        path = os.path.join(folder, "script")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run([LAB, "--file", path, "--", TOOL, "soft", "--accel", "kvm", "script"], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        return None, done.returncode, done.stderr.decode(errors="replace")
    code, ours, err = soft(["-"], text)
    return (done.stdout.decode().split("\n")[:-1], ours), code, err


def suite_nested():
    total = int(os.environ.get("GM_PROGRAMS", NESTED_PROGRAMS))
    print(f"GM_SEED={SEED} GM_PROGRAMS={total}", flush=True)
    start = time.monotonic()
    batches = [("borders", 0)]
    batches += [(first, min(NESTED_BATCH, total - first)) for first in range(0, total, NESTED_BATCH)]
    lines = 0
    permitted = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [(first, pool.submit(run_batch, first, count)) for first, count in batches]
        for first, future in futures:
            pair, code, err = future.result()
            if code == SKIPPED:
                pool.shutdown(cancel_futures=True)
                skip(err.strip().split("\n")[-1].removeprefix("lab: skipped: "))
            if pair is None or code != 0:
                check(f"nested_scripts_{first}_run", False, f"exit {code}: {err}")
                continue
            lines += len(pair[0])
            for name, times in check_lines(f"nested_scripts_{first}_equal_linux", *pair).items():
                permitted[name] = permitted.get(name, 0) + times
    print(f"{total} programs, {lines} lines, {time.monotonic() - start:.0f} s, permitted differences: {permitted}")


def main():
    globals()["suite_" + sys.argv[1]]()
    print(f"[==========] {len(PASSED) + len(FAILED)} test(s) run.")
    print(f"[  PASSED  ] {len(PASSED)} test(s).")
    if FAILED:
        print(f"[  FAILED  ] {len(FAILED)} test(s), listed above.")
    sys.exit(1 if FAILED else 0)


main()
