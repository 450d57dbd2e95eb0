#!/usr/bin/env python3
"""Write the names of KVM's requests and capabilities, for the trace.

    names.py OUTPUT COMPILER [ARGUMENT]... < a file that includes <linux/kvm.h>

The system's own header has them, by its macros. Those of other architectures are left out: their structures are not there.
"""
import re
import subprocess
import sys

REQUEST = re.compile(r"^#define (KVM_\w+) (_IO[RW]*)\(KVMIO, *(0x[0-9a-f]+)", re.MULTILINE)
CAPABILITY = re.compile(r"^#define KVM_CAP_(\w+) (\d+)$", re.MULTILINE)
OTHERS = re.compile(r"S390|PPC|ARM|RISCV|LOONGARCH|MIPS|SPAPR|RMA|HTAB|RTAS|_VCPU_INIT|PREFERRED_TARGET|REG_LIST|XEN_HVM_ATTR_")
DIRECTIONS = {"_IO": 0, "_IOW": 1, "_IOR": 2, "_IOWR": 3}


def main():
    output, command = sys.argv[1], sys.argv[2:]
    macros = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    requests = {(int(number, 16), DIRECTIONS[kind]): name
                for name, kind, number in REQUEST.findall(macros) if not OTHERS.search(name)}
    capabilities = {int(number): name for name, number in CAPABILITY.findall(macros)}
    with open(output, "w", encoding="utf-8") as file:
        for (number, direction), name in sorted(requests.items()):
            file.write(f'REQUEST({number:#x}, {direction}, "{name}")\n')
        for number, name in sorted(capabilities.items()):
            file.write(f'CAPABILITY({number}, "{name}")\n')


main()
