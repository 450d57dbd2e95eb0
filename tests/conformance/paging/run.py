#!/usr/bin/env python3
"""Build the guest program of the paging oracle, and run it in QEMU on RAM that the host has prepared.

    run.py build FOLDER                   FOLDER/rom, FOLDER/monitor32, FOLDER/monitor64
    run.py boot ROM RAM PHYSICAL_BITS     the machine's RAM is the file RAM; ends when the guest program powers off

Exit code 77, with a line on stderr, where QEMU or the compiler is missing.
"""
import os
import shutil
import subprocess
import sys

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest")
QEMU = "qemu-system-x86_64"
PACKAGES = {"gcc": "gcc", "objcopy": "binutils", QEMU: "qemu-system-x86"}
ROM_BYTES = 65536
SKIP = 77
TIMEOUT_S = float(os.environ.get("GM_PAGING_TIMEOUT_S", "600"))

# RAM below 4 GiB; the rest of the file is above. machine.h has it too.
LOW_RAM = "2G"

CFLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pic",
          "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-mno-red-zone",
          "-mgeneral-regs-only", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"]

# Emulators get nothing else: meson's MALLOC_PERTURB_ slows them down.
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath)}


def need(program):
    path = shutil.which(program)
    if path is None:
        print(f"skipped: needs {program} (Debian: {PACKAGES[program]})", file=sys.stderr)
        sys.exit(SKIP)
    return path


def link(folder, name, script, sources, flags):
    elf, binary = os.path.join(folder, name + ".elf"), os.path.join(folder, name)
    subprocess.run([need("gcc"), *CFLAGS, *flags, "-T", os.path.join(HERE, script), "-o", elf,
                    *[os.path.join(HERE, source) for source in sources]], check=True)
    subprocess.run([need("objcopy"), "-O", "binary", elf, binary], check=True)
    os.unlink(elf)
    return binary


def build(folder):
    need(QEMU)
    rom = link(folder, "rom", "rom.ld", ["boot.S"], ["-m32"])
    with open(rom, "rb") as file:
        code = file.read()
    with open(rom, "wb") as file:
        file.write(code.rjust(ROM_BYTES, b"\0"))
    link(folder, "monitor32", "monitor.ld", ["enter32.S", "guest.c"], ["-m32"])
    link(folder, "monitor64", "monitor.ld", ["enter64.S", "guest.c"], ["-m64"])


def boot(rom, ram, physical_bits):
    mib = os.stat(ram).st_size >> 20
    command = [need(QEMU), "-accel", "tcg", "-cpu", f"max,phys-bits={physical_bits}", "-display", "none", "-nodefaults",
               "-no-reboot", "-machine", f"pc,max-ram-below-4g={LOW_RAM},memory-backend=ram", "-m", f"{mib}M",
               "-object", f"memory-backend-file,id=ram,mem-path={ram},size={mib}M,share=on",
               "-bios", rom, "-device", "isa-debug-exit,iobase=0x501,iosize=1"]
    try:
        done = subprocess.run(command, env=ENVIRONMENT, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        sys.exit(f"run.py: no end after {TIMEOUT_S:.0f} s")
    if done.returncode != 1:  # isa-debug-exit: 2 * value + 1
        sys.exit(f"run.py: the machine ended by itself ({done.returncode})")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "build":
        build(sys.argv[2])
    elif len(sys.argv) == 5 and sys.argv[1] == "boot":
        boot(*sys.argv[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
