#!/usr/bin/env python3
"""Slot calls of a SeaBIOS boot under `guestmem run`; answers as bench/measure.h says.

    firmware.py BUILD [CASE...]     calls: all; unchanged: those on memory that the edit left as it was
"""
import json
import os
import subprocess
import sys


def boot(build):
    command = [os.path.join(build, "guestmem"), "run", "--accel", "kvm", "--memory", "512M", "--for", "6", "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    changes = json.loads(result.stdout)["slot_changes"]
    return {"calls": changes["create"] + changes["delete"] + changes["flags"], "unchanged": changes["untouched"]}


def main():
    counts = None
    if not os.access("/dev/kvm", os.W_OK):
        counts = {"calls": "absent", "unchanged": "absent"}
    for line in sys.argv[2:] or sys.stdin:
        counts = counts or boot(sys.argv[1])
        print(counts[line.strip()], flush=True)


main()
