#!/usr/bin/env python3
"""Compiled guest code on the software vCPU's interpreter; answers as bench/measure.h says.

    interpreter.py BUILD [CASE...]    code/ROUNDS: nanoseconds for ROUNDS rounds of tests/speed/guest.c; instruction: for each

It asks bench-x86, which is linked with what the shared library hides: KVM_RUN does not tell how many instructions it ran.
"""
import json
import os
import subprocess
import sys

ROUNDS = "2"


def measure(build):
    program = os.path.join(build, "tests", "speed", "bench-x86")
    output = subprocess.run([program, ROUNDS], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[0])


def main():
    for line in sys.argv[2:] or sys.stdin:
        result = measure(sys.argv[1])
        ns = result["seconds"] * 1e9
        print(ns if line.strip() == "code/" + ROUNDS else ns / result["instructions"], flush=True)


main()
