#!/usr/bin/env python3
"""Linux 6.1's own KVM selftests, unmodified, on the software KVM: built here from Debian's package linux-source-6.1.

    selftests.py TOOL FOLDER

FOLDER keeps what was built. Without the package, or where its programs do not build, every program counts as skipped. None of Linux's code
is part of this project, or of what it installs. Ends with the lines that scripts/run-tests counts.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

TOOL, FOLDER = sys.argv[1:]
SOURCE = "/usr/src/linux-source-6.1.tar.xz"
PARTS = ["Makefile", "Kbuild", "Kconfig", "scripts", "include", "arch/x86", "tools", "usr"]
KSFT_SKIP = 4

# What is run, in this order: with one vCPU and with two where there is an option for it. -i iterations, -b bytes a vCPU.
RUNS = [
    ["set_memory_region_test"],
    ["dirty_log_test", "-M", "dirty-log"],
    ["dirty_log_test", "-M", "clear-log"],
    ["dirty_log_test", "-M", "dirty-ring"],
    ["dirty_log_perf_test", "-b", "64M"],
    ["dirty_log_perf_test", "-b", "64M", "-v", "2", "-o"],
    ["demand_paging_test", "-b", "64M"],
    ["demand_paging_test", "-b", "64M", "-v", "2", "-u", "MISSING"],
    ["kvm_page_table_test", "-b", "64M"],
    ["kvm_page_table_test", "-b", "64M", "-v", "2"],
    ["memslot_modification_stress_test", "-i", "100"],
    ["memslot_modification_stress_test", "-i", "100", "-v", "2"],
    ["max_guest_memory_test", "-m", "1", "-s", "1", "-c", "1"],
    ["max_guest_memory_test", "-m", "1", "-s", "1", "-c", "2"],
    ["kvm_create_max_vcpus"],
    ["rseq_test"],
    ["x86_64/cpuid_test"],
    ["x86_64/cr4_cpuid_sync_test"],
    ["x86_64/debug_regs"],
    ["x86_64/get_msr_index_features"],
    ["x86_64/kvm_clock_test"],
    ["x86_64/max_vcpuid_cap_test"],
    ["x86_64/platform_info_test"],
    ["x86_64/set_boot_cpu_id"],
    ["x86_64/set_sregs_test"],
    ["x86_64/state_test"],
    ["x86_64/sync_regs_test"],
    ["x86_64/tsc_msrs_test"],
    ["x86_64/userspace_io_test"],
    ["x86_64/userspace_msr_exit_test"],
    ["x86_64/xapic_ipi_test"],
    ["x86_64/xapic_state_test"],
]

# Debian's 6.1.192 has a name that only newer trees define, and one program without an include.
FLAGS = {"EXTRA_CFLAGS": "-DTEST_ASSERT_EQ=ASSERT_EQ -include linux/stddef.h", "LDFLAGS": ""}


def quietly(command, **options):
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        print(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout.decode(errors='replace')[-1500:]}")
    return done.returncode == 0


def build():
    """The folder of the programs, or None."""
    tree = os.path.join(FOLDER, "linux-source-6.1")
    output = os.path.join(FOLDER, "kvm")
    stamp = os.path.join(FOLDER, "built")
    if os.path.exists(stamp) and os.path.getmtime(stamp) > os.path.getmtime(SOURCE):
        return output
    os.makedirs(output, exist_ok=True)
    if not quietly(["tar", "-C", FOLDER, "-xJf", SOURCE] + ["linux-source-6.1/" + part for part in PARTS]):
        return None
    if not quietly(["make", "-s", "-C", tree, "headers"]):
        return None
    # Programs that this compiler does not take are not run; the rest is kept (-k).
    quietly(["make", "-k", "-j2", "-C", os.path.join(tree, "tools/testing/selftests/kvm"), "OUTPUT=" + output, "ARCH=x86_64"],
            env={**os.environ, **FLAGS})
    with open(stamp, "w", encoding="ascii"):
        pass
    return output


# dirty_log_test lets its vCPU go before it counts its iterations up. A vCPU that has read the old number, and is off its processor from there
# until the log was fetched, then writes what the test takes for too old by one: on any KVM, if the machine is busy. Then it may try again.
STALE = re.compile(r"Set page \d+ value (\d+) incorrect \(iteration=(\d+)\)")
TRIES = 3


def was_late(output):
    stale = STALE.search(output)
    return stale and int(stale.group(1)) == int(stale.group(2)) - 2


def run(programs, arguments):
    for _ in range(TRIES):
        word, text = run_once(programs, arguments)
        if word != "FAILED" or not was_late(text):
            break
        print(f"{' '.join(arguments)}: a vCPU was late", flush=True)
    return word, text


def run_once(programs, arguments):
    """How it ended: PASSED, SKIPPED or FAILED, with a line or more about it."""
    program = os.path.join(programs, arguments[0])
    if not os.path.exists(program):
        return "FAILED", "it was not built"
    with tempfile.NamedTemporaryFile(suffix=".trace") as trace:
        command = [TOOL, "kvm", "--trace", trace.name, "--", program] + arguments[1:]
        start = time.monotonic()
        try:
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=400)
        except subprocess.TimeoutExpired:
            return "FAILED", "it did not end"
        output = done.stdout.decode(errors="replace")
        if done.returncode == 0:
            return "PASSED", f"{time.monotonic() - start:.1f} s"
        last = output.rstrip().split("\n")[-1]
        # kvm_clock_test fails where the host, which is then a guest itself, does not count by the TSC: no matter of KVM's.
        if done.returncode == KSFT_SKIP or "clocksource not supported" in last:
            return "SKIPPED", last
        missing = sorted({line.split(" name=")[1].split()[0] for line in trace.read().decode().split("\n")
                          if " unsupported " in line and " name=" in line})
        return "FAILED", f"exit code {done.returncode}\n{output[-1500:]}\nrequests that are missing: {missing}"


def main():
    counts = {"PASSED": 0, "SKIPPED": 0, "FAILED": 0}
    programs = build() if os.path.exists(SOURCE) else None
    if programs is None:
        print(f"Linux's selftests cannot be built ({SOURCE}, of the package linux-source-6.1)")
        counts["SKIPPED"] = len(RUNS)
    else:
        for arguments in RUNS:
            word, text = run(programs, arguments)
            counts[word] += 1
            print(f"{' '.join(arguments)}: {word.lower()}, {text}", flush=True)
    print(f"[==========] {len(RUNS)} test(s) run.")
    for word in ["PASSED", "SKIPPED", "FAILED"]:
        if counts[word] or word == "PASSED":
            print(f"[{word:^9}] {counts[word]} test(s).")
    sys.exit(1 if counts["FAILED"] else 0 if counts["PASSED"] else 77)


main()
