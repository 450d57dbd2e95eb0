#!/usr/bin/env python3
"""Take one thing out of the library at a time, and see that a test fails.

    tests/mutants/run.py SOURCE [--build FOLDER] [--only NAME]... [--fast]

Copies the tree to a temporary folder, builds it with AddressSanitizer and audits, sees that the tests pass, and then, for each
mutant of mutants.py: edits the copy, builds what is needed, runs its tests until one fails. A mutant that no test kills, one
that does not compile, and one whose text is not in the sources any more, are failures. --build keeps copy and build there, to
use them again; --fast runs the tests of the unchanged tree only if there is no such build yet.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mutants import MUTANTS, TESTS  # noqa: E402

COPIED = ["include", "src", "tests", "tool", "docs", "scripts", "bench", "examples", "fuzz", "meson.build", "meson_options.txt"]
TEST_TIMEOUT_S = 40
UNCHANGED_TIMEOUT_S = 300  # a busy machine is no fault of the tree's
# Threads may be kind to a mutant once; a survivor is tried again.
TRIES = 3
SETUP = ["-Daudit=true", "-Db_sanitize=address,undefined", "-Doptimization=1", "-Ddebug=true", "-Dwerror=false"]


class Tree:
    """The copy, and its build."""

    def __init__(self, source, folder):
        self.source = source
        self.copy = os.path.join(folder, "tree")
        self.build = os.path.join(folder, "build")

    def fill(self):
        for name in COPIED:
            path = os.path.join(self.source, name)
            to = os.path.join(self.copy, name)
            if os.path.isdir(path):
                self.fill_folder(path, to)
            elif os.path.exists(path):
                os.makedirs(os.path.dirname(to), exist_ok=True)
                self.fill_file(path, to)

    def fill_folder(self, path, to):
        for folder, _, files in os.walk(path):
            for file in files:
                rest = os.path.relpath(os.path.join(folder, file), path)
                os.makedirs(os.path.dirname(os.path.join(to, rest)), exist_ok=True)
                self.fill_file(os.path.join(folder, file), os.path.join(to, rest))

    @staticmethod
    def fill_file(path, to):
        """Not if it is the same: its time says what to build."""
        with open(path, "rb") as file:
            wanted = file.read()
        if os.path.exists(to):
            with open(to, "rb") as file:
                if file.read() == wanted:
                    return
        with open(to, "wb") as file:
            file.write(wanted)
        shutil.copymode(path, to)

    def read(self, name):
        with open(os.path.join(self.copy, name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text):
        with open(os.path.join(self.copy, name), "w", encoding="utf-8") as file:
            file.write(text)

    def setup(self):
        if os.path.exists(os.path.join(self.build, "build.ninja")):
            return True
        command = ["meson", "setup", *SETUP, self.build, self.copy]
        done = subprocess.run(command, env={**os.environ, "CC": "gcc"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            print(done.stdout.decode(errors="replace"))
        return done.returncode == 0

    def compile(self, programs):
        """None, or what the compiler said."""
        done = subprocess.run(["ninja", "-C", self.build, *programs], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return None if done.returncode == 0 else done.stdout.decode(errors="replace")

    def fails(self, test, timeout_s=TEST_TIMEOUT_S):
        """How the test fails; None: it passes."""
        program, settings = TESTS[test]
        environment = {**os.environ, **settings, "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0"}
        try:
            done = subprocess.run([os.path.join(self.build, program)], env=environment, timeout=timeout_s,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        except subprocess.TimeoutExpired:
            return "does not end"
        if done.returncode == 0:
            return None
        lines = [line for line in done.stderr.decode(errors="replace").split("\n") if line.strip()]
        told = [line for line in lines if "REQUIRE" in line or ".c:" in line or "ERROR" in line]
        return (told or lines or [f"exit code {done.returncode}"])[0].strip()[:150]


def mutate(tree, edits):
    """The files as they were; raises LookupError where a text is not there."""
    before = {}
    for name, old, new in edits:
        everywhere = name.startswith("*")
        name = name.lstrip("*")
        text = tree.read(name)
        count = text.count(old)
        before.setdefault(name, text)
        if count == 0 or (count > 1 and not everywhere):
            for path, original in before.items():
                tree.write(path, original)
            raise LookupError(f"{name} has this {count} times: {old.strip()!r}")
        tree.write(name, text.replace(old, new))
    return before


def judge(tree, edits, tests):
    """(killed, what was seen)."""
    try:
        before = mutate(tree, edits)
    except LookupError as error:
        return False, str(error)
    try:
        said = tree.compile([TESTS[test][0] for test in tests])
        if said is not None:
            errors = [line for line in said.split("\n") if "error:" in line]
            return False, "does not compile: " + (errors or [said[-300:]])[0]
        for test in list(tests) * TRIES:
            how = tree.fails(test)
            if how is not None:
                return True, f"{test}: {how}"
        return False, "survives " + ", ".join(tests)
    finally:
        for name, text in before.items():
            tree.write(name, text)


def prepare(tree, mutants, fast):
    """Build the unchanged tree, and see that its tests pass."""
    was_there = os.path.exists(os.path.join(tree.build, "build.ninja"))
    tests = sorted({test for _, _, names in mutants for test in names})
    tree.fill()
    if not tree.setup():
        return False
    said = tree.compile(sorted({TESTS[test][0] for test in tests}))
    if said is not None:
        print(said)
        return False
    for test in [] if fast and was_there else tests:
        how = tree.fails(test, UNCHANGED_TIMEOUT_S)
        if how is not None:
            print(f"the unchanged tree fails {test}: {how}")
            return False
    return True


def run(tree, mutants, fast):
    failed = []
    killed = 0
    if not prepare(tree, mutants, fast):
        print("[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] the unchanged tree")
        return 1
    print(f"[==========] Running {len(mutants)} test(s).", flush=True)
    for name, edits, tests in mutants:
        start = time.monotonic()
        good, seen = judge(tree, edits, tests)
        print(f"[ {'      OK' if good else ' FAILED '} ] {name}: {seen} ({time.monotonic() - start:.0f} s)", flush=True)
        killed += good
        if not good:
            failed.append(name)
    print(f"[==========] {len(mutants)} test(s) run.\n[  PASSED  ] {killed} test(s).")
    if failed:
        print(f"[  FAILED  ] {len(failed)} test(s), listed below:")
        for name in failed:
            print(f"[  FAILED  ] {name}")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--build")
    parser.add_argument("--only", action="append")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if options.only is None or mutant[0] in options.only]
    if options.build:
        sys.exit(run(Tree(options.source, options.build), mutants, options.fast))
    with tempfile.TemporaryDirectory(prefix="guestmem-mutants-") as folder:
        sys.exit(run(Tree(options.source, folder), mutants, False))


main()
