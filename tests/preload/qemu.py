#!/usr/bin/env python3
"""QEMU, unmodified, with -accel kvm on the software KVM: SeaBIOS runs until it has found nothing to boot.

    qemu.py TOOL

With the interrupt chips in KVM, with one vCPU and with two, and in QEMU. Without QEMU every test counts as skipped. Ends with the lines that
scripts/run-tests counts.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from sanitizer import environment

TOOL = sys.argv[1]
QEMU = "qemu-system-x86_64"
SECONDS_MAX = 120
# What SeaBIOS writes to its debug port when it is through.
LAST_LINE = "No bootable device."
# Chips in QEMU 7.2 and two vCPUs: it stops on /dev/kvm as well.
RUNS = [("on", 1), ("on", 2), ("off", 1)]


def has_ended(path):
    if not os.path.exists(path):
        return False
    with open(path, encoding="ascii", errors="replace") as file:
        return LAST_LINE in file.read()


def boot(chips, vcpus):
    """None, or what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "debugcon")
        command = [TOOL, "kvm", "--", QEMU, "-machine", f"pc,accel=kvm,kernel_irqchip={chips}", "-smp", str(vcpus), "-m", "64",
                   "-display", "none", "-nodefaults", "-no-user-config", "-debugcon", "file:" + log,
                   "-global", "isa-debugcon.iobase=0x402"]
        with open(os.path.join(folder, "output"), "w+b") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment(TOOL))
            end = time.monotonic() + SECONDS_MAX
            while process.poll() is None and not has_ended(log) and time.monotonic() < end:
                time.sleep(0.1)
            is_running = process.poll() is None
            process.kill()
            process.wait()
            if is_running and has_ended(log):
                return None
            output.seek(0)
            said = output.read().decode(errors="replace")[-1500:]
            return f"{'SeaBIOS did not come to its end' if is_running else 'QEMU ended'}\n{said}"


def main():
    passed = failed = 0
    has_qemu = shutil.which(QEMU) is not None
    for chips, vcpus in RUNS if has_qemu else []:
        start = time.monotonic()
        why = boot(chips, vcpus)
        passed += why is None
        failed += why is not None
        print(f"kernel_irqchip={chips}, {vcpus} vCPUs: {why or f'{time.monotonic() - start:.1f} s'}", flush=True)
    if not has_qemu:
        print(f"there is no {QEMU}")
    print(f"[==========] {len(RUNS)} test(s) run.")
    print(f"[  PASSED  ] {passed} test(s).")
    if not has_qemu:
        print(f"[  SKIPPED ] {len(RUNS)} test(s).")
    if failed:
        print(f"[  FAILED  ] {failed} test(s).")
    sys.exit(1 if failed else 0 if has_qemu else 77)


main()
