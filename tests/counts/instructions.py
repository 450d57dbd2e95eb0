#!/usr/bin/env python3
"""Instructions that the hot paths take, counted by callgrind: no more than is written here.

    instructions.py PATHS        PATHS: the program of paths.c

Counts do not depend on what else the machine does, but on the compiler: they are gcc 12's at -O2, as Debian 12 builds us,
and each may be a tenth more, and two. The loop and the check of each result are among them. Who makes a path shorter
lowers its number here; who makes it longer says in the commit why it has to be.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

TIMES = 1000

LIMITS = {
    "find": 77,
    "load": 82,
    "store": 84,
    "logged_store": 145,
    "mark": 107,
    "mark_mib": 231,
    "cache_load": 20,
    "read64": 101,
    "write64": 105,
    "callback": 213,
    "view": 64,
    "reader": 10,
    "map": 152,
    "tlb_hit": 22,
    "toggle_ram": 7400,
    "toggle_mmio": 4800,
}


def allowed(limit):
    return limit * 1.1 + 2


def count(program, folder):
    out = os.path.join(folder, "out")
    # Meson has malloc() fill what it gives; that would be counted where a path makes something.
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_PERTURB_"}
    subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, program], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    annotated = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", out], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
    found = re.findall(r"^\s*([\d,]+)\s.*:path_(\w+)", annotated, re.MULTILINE)
    return {name: int(instructions.replace(",", "")) / TIMES for instructions, name in found}


def main():
    if shutil.which("valgrind") is None or shutil.which("callgrind_annotate") is None:
        print("instructions: valgrind is not installed; skipped")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        counts = count(sys.argv[1], folder)
    failed = set(LIMITS) ^ set(counts)
    for name in failed:
        print(f"{name}: counted or written here, but not both")
    for name in sorted(set(LIMITS) & set(counts)):
        verdict = "" if counts[name] <= allowed(LIMITS[name]) else "  MORE THAN ALLOWED"
        failed |= {name} if verdict else set()
        print(f"{name:14} {counts[name]:7.1f} instructions, {LIMITS[name]} written here{verdict}")
    sys.exit(1 if failed else 0)


main()
