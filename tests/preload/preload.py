#!/usr/bin/env python3
"""Programs that use /dev/kvm, run by `guestmem kvm` on the software KVM, and on the machine's own KVM where that opens.

    preload.py TOOL TESTS CASES BESIDE

TOOL is the guestmem binary; TESTS the folder of the built tests; CASES and BESIDE the programs of this folder. Ends with the lines that
scripts/run-tests counts.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from sanitizer import environment

TOOL, TESTS, CASES, BESIDE = sys.argv[1:]
PASSED = []
FAILED = []
SKIPPED = []

LINE = re.compile(r"^\d+\.\d{6} \d+/\d+ (-|sys|vm\d+(\.vcpu\d+)?) \w+( begin|( [a-z_]+=[^ ]*)* = (\d+|E[A-Z0-9]+))$")


ENVIRONMENT = environment(TOOL)


def run(command, **options):
    """Exit code (negative: a signal), stdout, stderr."""
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, env=ENVIRONMENT, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def run_kvm(*command, **options):
    return run([TOOL, "kvm", *command], **options)


def check(name, good, why=""):
    (PASSED if good else FAILED).append(name)
    if not good:
        print(f"{name}: {why}")


def kvm_opens():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return True


def read_trace(path):
    """The lines of a well-formed trace; None and a complaint else."""
    with open(path, encoding="ascii") as file:
        lines = file.read().split("\n")
    if lines[0] != "guestmem-trace 1" or lines[-1] != "":
        return None, "first or last line"
    for line in lines[1:-1]:
        if not LINE.match(line):
            return None, repr(line)
    return lines[1:-1], None


# ---- cases ----

# What a case has to leave in its trace, in this order.
TRACES = {
    "made_as_kvm_has_them": [r"sys KVM_CREATE_VM type=0 vm=vm0 fd=\d+ took=", r"vm0 KVM_CREATE_VCPU vcpu=0 fd=\d+",
                             r"sys KVM_CREATE_VM type=119 .*= EINVAL", r"vm0 close last=1 = 0"],
    "duplicates_are_the_same": [r"vm0.vcpu0 KVM_RUN begin", r"vm0.vcpu0 KVM_RUN exit=IO port=0x10 .*= 0",
                                r"vm0.vcpu0 close fd=\d+", r"vm0 KVM_CREATE_VCPU vcpu=0 .*= EEXIST"],
    "torn_down_in_any_order": [r"vm0.vcpu0 close last=1 = 0", r"vm0 close last=1 = 0", r"vm23.vcpu0 close last=1 = 0",
                               r"vm23 close last=1 = 0"],
    "memory_that_went_fails_the_run": [r"as=0 slot=0 flags=0 gpa=0x0 size=0x10000 hva=0x[0-9a-f]+ ",
                                       r"vm0 notify by=munmap hva=0x[0-9a-f]+ size=0x1000 = 0", r"KVM_RUN .*= EFAULT",
                                       r"notify by=mmap", r"notify by=mprotect", r"notify by=mremap"],
    "requests_of_the_others_are_refused": [r"vm0 unsupported request=0xae80 name=KVM_RUN .*= ENOTTY",
                                           r"sys unsupported request=0xae41 name=KVM_CREATE_VCPU .*= EINVAL"],
    "child_of_fork_gets_eio_and_may_have_its_own": [r"KVM_CREATE_VM .* vm=vm0", r"- fork child=\d+ = 0"],
}


def expect_in_order(lines, patterns):
    rest = iter(lines)
    for pattern in patterns:
        if not any(re.search(pattern, line) for line in rest):
            return f"no line, in its turn, is like {pattern}"
    return None


def test_cases(folder):
    has_kvm = kvm_opens()
    trace = os.path.join(folder, "trace")
    for entry in run([CASES, "--list"])[1].splitlines():
        name, soft_only = entry.split()[0], entry.endswith(" soft")
        expected = -signal.SIGALRM if name.startswith("dies_") else 0
        code, _, errors = run_kvm("--", CASES, name)
        check(name, code == expected, f"exit code {code}, {errors}")
        code, _, errors = run_kvm("--trace", trace, "--", CASES, name)
        lines, why = read_trace(trace)
        if code != expected:
            why = f"exit code {code}, {errors}"
        elif lines is not None:
            why = expect_in_order(lines, TRACES.get(name, []))
        check(name + ", traced", why is None, why)
        if not has_kvm:
            SKIPPED.append(name + ", on /dev/kvm")
        elif not soft_only:
            code, _, errors = run([CASES, name])
            check(name + ", on /dev/kvm", code == expected, f"exit code {code}, {errors}")


def test_beside(folder):
    """All that is not KVM's is as without the library."""
    outputs = []
    for command in [BESIDE], [TOOL, "kvm", BESIDE], [TOOL, "kvm", "--trace", os.path.join(folder, "trace"), BESIDE]:
        scratch = tempfile.mkdtemp(dir=folder)
        outputs.append(run(command + [scratch])[:2])
    check("beside", outputs[0][0] == 23 and outputs[0][1].count("\n") > 50, f"by itself: {outputs[0]}")
    for output in outputs[1:]:
        check("beside under the library", output == outputs[0], f"{output} is not {outputs[0]}")


def test_own_suites():
    """Tests of the library that ask /dev/kvm, and here get the software KVM: no answer may differ, and none be missing."""
    for program in ["unit-soft_errno", "kvm-attach", "kvm-guest_memfd", "kvm-irqchip", "kvm-kvm_backend", "kvm-vcpu", "kvm-vm"]:
        _, output, errors = run_kvm("--", os.path.join(TESTS, program))
        output += errors
        passed = re.findall(r"^\[ +OK +\] (\w+)", output, re.MULTILINE)
        others = set(re.findall(r"^\[ +(?:FAILED|SKIPPED) +\] ([a-z]\w+)$", output, re.MULTILINE))
        check(program, passed and not others, f"{others}, {output[-2000:]}")


# ---- the command ----

STATIC = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + bytes(8) + b"\x40" + bytes(7) + bytes(12) + b"\x40\0\x38\0\0\0"


def write_program(path, data, mode=0o755):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    return path


def test_refusals(folder):
    def path(name):
        return os.path.join(folder, name)

    set_uid = shutil.copy(CASES, path("set-uid"))
    os.chmod(set_uid, 0o4755)
    set_gid = shutil.copy(CASES, path("set-gid"))
    os.chmod(set_gid, 0o2755)
    with open(CASES, "rb") as file:
        program = file.read()
    musl = program.replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-musl--x86-64.so.1", 1)
    for name, command, code, text in [
            ("static", write_program(path("static"), STATIC + bytes(64)), 126, "static is statically linked"),
            ("set-uid", set_uid, 126, "set-uid is set-uid, set-gid or has capabilities"),
            ("set-gid", set_gid, 126, "set-gid is set-uid, set-gid or has capabilities"),
            ("32 bits", write_program(path("i386"), b"\x7fELF\x01" + program[5:]), 126, "is no 64-bit x86 program"),
            ("another loader", write_program(path("musl"), musl), 126, "is not started by glibc's loader"),
            ("text", write_program(path("text"), b"hello\n"), 126, "is neither an ELF program nor a script"),
            ("cut off", write_program(path("cut"), program[:70]), 126, "is neither an ELF program nor a script"),
            ("script of a static program", write_program(path("script"), b"#! " + path("static").encode() + b" -x\n"), 126,
             "static is statically linked"),
            ("not executable", write_program(path("plain"), program, 0o644), 126, "plain: Permission denied"),
            ("a folder", folder, 126, "Is a directory"),
            ("no such path", path("none"), 127, "none: No such file or directory"),
            ("no such command", "no-such-command-here", 127, "no-such-command-here: command not found"),
    ]:
        got, output, errors = run_kvm("--", command)
        check(name, got == code and text in errors and errors.count("\n") == 1 and not output, f"exit code {got}, {errors!r}")


def test_command(folder):
    script = write_program(os.path.join(folder, "script"), f"#!/bin/sh\nexec {CASES} \"$@\"\n".encode())
    check("a script", run_kvm("--", script, "made_as_kvm_has_them")[0] == 0)
    env = write_program(os.path.join(folder, "env"), b"#!/usr/bin/env sh\nexit 9\n")
    check("a script by env", run_kvm(env)[0] == 9)
    check("found by PATH", run_kvm("sh", "-c", "exit 5")[0] == 5)
    check("killed", run_kvm("sh", "-c", "kill -KILL $$")[0] == -signal.SIGKILL)
    check("its arguments", run_kvm("--", "printf", "%s,", "--trace", "--help", "--")[1] == "--trace,--help,--,")
    for name, arguments, text in [("no program", [], "PROGRAM is missing"), ("no value", ["--trace"], "--trace needs a value"),
                                  ("unknown option", ["--what", "x"], "unknown option --what")]:
        code, _, errors = run_kvm(*arguments)
        check(name, code == 2 and text in errors, f"{code}, {errors}")
    code, _, errors = run_kvm("--trace", "/no/such/folder/file", "true")
    check("a trace that cannot be", code == 1 and "cannot write /no/such/folder/file" in errors, f"{code}, {errors}")
    code, output, _ = run_kvm("--help")
    check("--help", code == 0 and output.startswith("Usage: guestmem kvm"))
    # Another library that is preloaded stays.
    code, output, _ = run(["env", f"LD_PRELOAD={ENVIRONMENT.get('LD_PRELOAD', 'libm.so.6')}", TOOL, "kvm", "printenv", "LD_PRELOAD"])
    check("another preloaded library", code == 0 and output.count(":") == 1 and "guestmem-preload.so:" in output, output)


def test_trace_of_several_processes(folder):
    trace = os.path.join(folder, "trace")
    code = run_kvm("--trace", trace, "sh", "-c", f"{CASES} made_as_kvm_has_them & {CASES} duplicates_are_the_same; wait; exit 3")[0]
    lines, why = read_trace(trace)
    check("a trace of several processes", code == 3 and lines is not None, why)
    makers = {line.split()[1] for line in lines or [] if "KVM_CREATE_VM" in line}
    check("each process has its lines", len(makers) == 2, makers)
    programs = [line for line in lines or [] if " exec program=" in line]
    check("each program is told of", len(programs) == 3 and all(" - exec program=/" in line for line in programs), programs)
    check("the exit is told of", any(" - exit code=3 = 0" in line for line in lines or []))


def main():
    with tempfile.TemporaryDirectory() as folder:
        test_cases(folder)
        test_beside(folder)
        test_own_suites()
        test_refusals(folder)
        test_command(folder)
        test_trace_of_several_processes(folder)
    print(f"[==========] {len(PASSED) + len(FAILED)} test(s) run.")
    print(f"[  PASSED  ] {len(PASSED)} test(s).")
    if SKIPPED:
        print(f"[  SKIPPED ] {len(SKIPPED)} test(s): there is no /dev/kvm to compare with.")
    if FAILED:
        print(f"[  FAILED  ] {len(FAILED)} test(s), listed above.")
    sys.exit(1 if FAILED else 0)


main()
