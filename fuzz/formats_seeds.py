#!/usr/bin/env python3
"""Inputs for fuzz-formats to begin with, out of tests/data: formats_seeds.py FOLDER."""
import glob
import lzma
import os
import sys
import tarfile

DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "data")
MAP, REPLAY, SCRIPT, TRACE, PROGRAM, TRANSLATE = range(6)  # as formats.c has its readers
BYTES_MAX = 1900


def pieces(text, first_lines=0):
    """Whole lines, as many as fit; the first ones in each piece."""
    lines = text.splitlines(keepends=True)
    head, piece = lines[:first_lines], lines[:first_lines]
    for line in lines[first_lines:]:
        if sum(map(len, piece)) + len(line) > BYTES_MAX and len(piece) > len(head):
            yield b"".join(piece)
            piece = list(head)
        if len(line) <= BYTES_MAX:
            piece.append(line)
    yield b"".join(piece)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def seeds():
    small = []
    with tarfile.open(os.path.join(DATA, "qemu-7.2-maps.tar.xz")) as tar:
        for member in tar:
            if member.name.endswith("tree.txt") and member.size <= BYTES_MAX:
                small.append((member.name, tar.extractfile(member).read()))
    for _, text in sorted(small)[::4]:
        yield MAP, text
    for path in sorted(glob.glob(os.path.join(DATA, "replay", "*.txt"))):
        text = read(path)
        yield REPLAY, text[:BYTES_MAX]
        steps = [line for line in text.splitlines(keepends=True)]
        head = [line for line in steps if line.split(b" ")[0] in (b"region", b"alias", b"sub", b"as")]
        rest = [line for line in steps if line not in head]
        for at in range(0, len(rest), 25):
            yield REPLAY, b"".join(head + rest[at:at + 25])[:BYTES_MAX]
    for path in sorted(glob.glob(os.path.join(DATA, "soft", "*.real*"))):
        text = lzma.open(path).read() if path.endswith(".xz") else read(path)
        lines = [line.split(b" ->")[0].rstrip() + b"\n" for line in text.splitlines()][:3000]
        for piece in list(pieces(b"".join(lines)))[::6]:
            yield SCRIPT, piece if piece.startswith(b"vm") else b"vm\n" + piece
    for path in sorted(glob.glob(os.path.join(DATA, "trace", "*.trace"))):
        for piece in pieces(read(path), 1):
            yield TRACE, piece
    for path in sorted(glob.glob(os.path.join(DATA, "trace", "*.strace"))):
        for piece in list(pieces(read(path)))[:8]:
            yield TRACE, piece
    for text in translations():
        yield TRANSLATE, text
    yield PROGRAM, b"#!/bin/sh -e\n"
    yield PROGRAM, read(sys.executable)[:1900]


def translations():
    """A table that maps itself, at every level; by other modes something else."""
    image = (0x67).to_bytes(8, "little") * 4 + (0x1e7).to_bytes(8, "little")
    memory = b"region 0 0 100000 0 ETM ram\nas 0 memory\n%%\n"
    for mode in (b"none", b"32", b"pae", b"4", b"5"):
        yield b"--mode " + mode + b" --cr3 0 0 8 1000\n" + memory + image
    yield b"--cr3 0 --write --user --pkru 4 --json 7fff8\n" + memory + image


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    for number, (reader, text) in enumerate(seeds()):
        with open(os.path.join(sys.argv[1], f"seed-{number}"), "wb") as file:
            file.write(bytes([reader]) + text)


main()
