#!/usr/bin/env python3
"""Build the guest program of the system oracle, and run it in QEMU on RAM that the host has prepared.

    run.py build FOLDER      FOLDER/rom, FOLDER/monitor
    run.py boot ROM RAM      the machine's RAM is the file RAM; ends when the guest program powers off

A case that does not end is ended by a reset, which the guest program is told of. Exit code 77, with a line on stderr,
where QEMU or the compiler is missing.
"""
import json
import mmap
import os
import struct
import subprocess
import sys
import time

CONFORMANCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, CONFORMANCE)

from paging.run import CFLAGS, ENVIRONMENT, QEMU, ROM_BYTES, need  # noqa: E402

# From image.h.
IMAGE = 0x300000
ANSWER_COUNT, IS_STUCK = IMAGE + 12, IMAGE + 20

PHYSICAL_BITS = 40  # vcpu.c has it too
STUCK_CPU_S = 2.0  # of the emulator's: this machine may be busy
STUCK_S = 20.0  # one that halts takes none
TIMEOUT_S = float(os.environ.get("GM_SYSTEM_TIMEOUT_S", "1200"))


def link(binary, script, sources):
    elf = binary + ".elf"
    subprocess.run([need("gcc"), *CFLAGS, "-m32", "-T", os.path.join(CONFORMANCE, script), "-o", elf,
                    *[os.path.join(CONFORMANCE, source) for source in sources]], check=True)
    subprocess.run([need("objcopy"), "-O", "binary", elf, binary], check=True)
    os.unlink(elf)


def build(folder):
    need(QEMU)
    rom = os.path.join(folder, "rom")
    link(rom, "paging/guest/rom.ld", ["paging/guest/boot.S"])
    with open(rom, "rb") as file:
        code = file.read()
    with open(rom, "wb") as file:
        file.write(code.rjust(ROM_BYTES, b"\0"))
    link(os.path.join(folder, "monitor"), "system/guest/monitor.ld", ["system/guest/enter.S", "system/guest/guest.c"])


def word(ram, offset):
    return struct.unpack_from("<I", ram, offset)[0]


def order(process, command):
    process.stdin.write(json.dumps({"execute": command}).encode() + b"\n")
    process.stdin.flush()


def cpu_seconds(process):
    try:
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(process, ram):
    """Until the machine ends. Return its exit code."""
    end = time.monotonic() + TIMEOUT_S
    count, since, since_cpu = -1, 0.0, 0.0
    while True:
        try:
            return process.wait(timeout=0.25)
        except subprocess.TimeoutExpired:
            pass
        now, cpu = time.monotonic(), cpu_seconds(process)
        if word(ram, ANSWER_COUNT) != count:
            count, since, since_cpu = word(ram, ANSWER_COUNT), now, cpu
        elif now > end:
            process.kill()
            process.wait()
            sys.exit(f"run.py: no end; {count} cases are done")
        elif cpu - since_cpu > STUCK_CPU_S or now - since > STUCK_S:
            struct.pack_into("<I", ram, IS_STUCK, 1)
            order(process, "system_reset")
            since, since_cpu = now, cpu


def boot(rom, ram_path):
    mib = os.stat(ram_path).st_size >> 20
    command = [need(QEMU), "-accel", "tcg", "-cpu", f"max,vendor=GenuineIntel,phys-bits={PHYSICAL_BITS},xgetbv1=off",
               "-display", "none", "-nodefaults", "-machine", "pc,smm=on,memory-backend=ram", "-m", f"{mib}M",
               "-object", f"memory-backend-file,id=ram,mem-path={ram_path},size={mib}M,share=on",
               "-bios", rom, "-device", "isa-debug-exit,iobase=0x501,iosize=1", "-qmp", "stdio"]
    with open(ram_path, "r+b") as file, mmap.mmap(file.fileno(), 0) as ram:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        order(process, "qmp_capabilities")
        code = watch(process, ram)
    if code != 1:  # isa-debug-exit: 2 * value + 1
        sys.exit(f"run.py: the machine ended by itself ({code})")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "build":
        build(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "boot":
        boot(*sys.argv[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
