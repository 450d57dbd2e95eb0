#!/usr/bin/env python3
"""What a commit costs QEMU, measured through qtest; answers as bench/measure.h says.

    e1000/N     -M pc, N e1000 behind bridges, 25 each       edu/N       -M q35, N edu, a root port each
    ivshmem/N   -M q35 -accel kvm, N ivshmem-plain, whose BAR is RAM, a root port each
    seabios     KVM_SET_USER_MEMORY_REGION of a SeaBIOS boot         seabios-unchanged   ... of memory that did not change

A commit is a write to device 0's command register that changes its memory bit, less one that changes nothing. Writes
are pipelined, 100 at a time; times are the CPU time of QEMU's main thread, which does the commit: what other processes do,
and the socket's waits, are not in it. All devices' BARs are mapped, and their bus masters on, before.
"""
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

QEMU = "qemu-system-x86_64"
PER_BRIDGE = 25
PIPELINED = 100
BATCHES = 5
COMMAND, PRIMARY_BUS, MEMORY_BASE, BAR0, BAR2 = 0x04, 0x18, 0x20, 0x10, 0x18
MEMORY_BIT, MASTER_BIT = 2, 4


class Machine:
    def __init__(self, kind, count):
        folder = tempfile.mkdtemp(prefix="bench-qemu-")
        path = os.path.join(folder, "qtest")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        accel = "kvm" if kind == "ivshmem" else "tcg"
        command = [QEMU, "-nodefaults", "-display", "none", "-S", "-accel", accel, "-m", "512", "-qtest", "unix:" + path,
                   "-qtest-log", "none", "-M", "pc" if kind == "e1000" else "q35"]
        self.count = count
        self.kind = kind
        self.process = subprocess.Popen(command + self.devices(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listener.settimeout(60)
        self.link, _ = listener.accept()
        listener.close()
        shutil.rmtree(folder)  # the connection is all that is needed, whatever ends this
        self.answers = self.link.makefile("rb")
        self.set_up()

    def devices(self):
        words = []
        for i in range(self.count):
            if self.kind == "e1000":
                if i % PER_BRIDGE == 0:
                    words += ["-device", f"pci-bridge,id=b{i // PER_BRIDGE},chassis_nr={i // PER_BRIDGE + 1},"
                              f"addr={i // PER_BRIDGE + 2:x}"]
                words += ["-device", f"e1000,bus=b{i // PER_BRIDGE},addr={i % PER_BRIDGE + 1:x},romfile="]
                continue
            words += ["-device", f"pcie-root-port,id=b{i},bus=pcie.0,chassis={i + 1},"
                      f"addr={i // 8 + 2:x}.{i % 8},multifunction=on"]
            if self.kind == "edu":
                words += ["-device", f"edu,bus=b{i},addr=0"]
            else:
                words += ["-object", f"memory-backend-ram,id=m{i},size=64K,share=on",
                          "-device", f"ivshmem-plain,bus=b{i},addr=0,memdev=m{i}"]
        return words

    def send(self, lines):
        self.link.sendall("".join(line + "\n" for line in lines).encode())
        for line in lines:
            answer = self.answers.readline()
            if not answer.startswith(b"OK"):
                sys.exit(f"qemu.py: {line}: {answer}")

    @staticmethod
    def config(bus, device, function, register, value, size="l"):
        return [f"outl 0xcf8 {0x80000000 | bus << 16 | device << 11 | function << 8 | register & 0xfc:#x}",
                f"out{size} {0xcfc + (register & 3):#x} {value:#x}"]

    def set_up(self):
        """Bus numbers, windows and BARs, as a firmware would give them: a MiB a device from 3 GiB on."""
        per_bridge = PER_BRIDGE if self.kind == "e1000" else 1
        lines = []
        bar = BAR2 if self.kind == "ivshmem" else BAR0
        for i in range(self.count):
            bridge = i // per_bridge
            at = 0xc0000000 + (i << 20)
            if i % per_bridge == 0:
                device, function = (bridge + 2, 0) if self.kind == "e1000" else (i // 8 + 2, i % 8)
                last = at + (per_bridge << 20) - 1
                lines += self.config(0, device, function, PRIMARY_BUS, bridge + 1 << 8 | bridge + 1 << 16)
                lines += self.config(0, device, function, MEMORY_BASE, at >> 16 | last >> 16 << 16)
                lines += self.config(0, device, function, COMMAND, MEMORY_BIT | MASTER_BIT, "w")
            slot = i % per_bridge + 1 if self.kind == "e1000" else 0
            lines += self.config(bridge + 1, slot, 0, bar, at)
            if bar == BAR2:
                lines += self.config(bridge + 1, slot, 0, bar + 4, 0)
                lines += self.config(bridge + 1, slot, 0, BAR0, 0)
            lines += self.config(bridge + 1, slot, 0, COMMAND, MEMORY_BIT | MASTER_BIT, "w")
        slot = 1 if self.kind == "e1000" else 0
        self.send(lines + [f"outl 0xcf8 {0x80000000 | 1 << 16 | slot << 11 | COMMAND:#x}"])

    def used_ns(self):
        with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0])

    def batch(self, values):
        lines = [f"outw 0xcfc {value:#x}" for value in values] * (PIPELINED // len(values))
        before = self.used_ns()
        self.send(lines)
        # The clock stops when it sleeps; it answers the last line just before.
        time.sleep(0.001)
        return (self.used_ns() - before) / len(lines)

    def commit_ns(self):
        on, off = MEMORY_BIT | MASTER_BIT, MASTER_BIT
        self.batch([off, on])
        return statistics.median(self.batch([off, on]) - self.batch([on, on]) for _ in range(BATCHES))

    def close(self):
        self.process.kill()
        self.process.wait()


def boot_seabios():
    """Slot calls of a boot, from QEMU's own trace: (all, those that made a slot again just as it had been)."""
    command = [QEMU, "-M", "pc", "-accel", "kvm", "-m", "512", "-display", "none", "-nodefaults", "-no-reboot",
               "-trace", "kvm_set_user_memory"]
    with tempfile.TemporaryFile(mode="w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        time.sleep(6)
        process.kill()
        process.wait()
        log.seek(0)
        calls = [re.findall(r"0x[0-9a-f]+", line) for line in log if "kvm_set_user_memory" in line]
    return count_unchanged(calls)


def count_unchanged(calls):
    """A slot is GPA, size, HVA. Deleting and making again (whole, or a part at the same place) touches what did not change."""
    slots, deleted, unchanged = {}, [], 0
    for call in calls:
        number, gpa, size, hva = int(call[0], 16), int(call[-3], 16), int(call[-2], 16), int(call[-1], 16)
        if size == 0:
            if number in slots:
                deleted.append(slots.pop(number))
            continue
        slots[number] = (gpa, size, hva)
        if any(old[2] - old[0] == hva - gpa and old[0] < gpa + size and gpa < old[0] + old[1] for old in deleted):
            unchanged += 1
    return len(calls), unchanged


class Peer:
    def __init__(self):
        self.machines = {}
        self.boot = None

    def answer(self, name):
        kind, _, count = name.partition("/")
        if kind.startswith("seabios"):
            if not os.access("/dev/kvm", os.W_OK):
                return "absent"
            self.boot = self.boot or boot_seabios()
            return self.boot[kind == "seabios-unchanged"]
        if kind == "ivshmem" and not os.access("/dev/kvm", os.W_OK):
            return "absent"
        if name not in self.machines:
            self.machines[name] = Machine(kind, int(count))
        return f"{self.machines[name].commit_ns():.1f}"


def main():
    peer = Peer()
    try:
        for name in sys.argv[1:]:
            print(name, peer.answer(name), flush=True)
        if len(sys.argv) == 1:
            for line in sys.stdin:
                print(peer.answer(line.strip()), flush=True)
    finally:
        for machine in peer.machines.values():
            machine.close()


main()
