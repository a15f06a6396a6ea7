#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of the int8 products' inner loops, per thousand multiply-adds.

    tools/count_instructions.py BUILD [BUILD ...]

For every level of kernels in these build folders (a cross build has the levels of its own machine) each
product is compiled once more, alone and with the level's own flags, disassembled, and the loop over its
blocks counted. Loops inside it run as often as the block's multiply-adds ask for. So levels can be
compared that this machine cannot run. docs/performance.md has the table. Needs objdump.
"""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

LANES = 16
# What is counted: heading, file, a call, and the multiply-adds of one block.
MANY = [
    ("Q4_0", "kern_x86_q8.c", "dot_q8_part(acc, strip, panel, n, shift, SIMD_ROWS_Q8, 32, false, 32)", 32),
    ("Q8_0", "kern_x86_q8.c", "dot_q8_part(acc, strip, panel, n, shift, SIMD_ROWS_Q8, 32, false, SIMD_WIDE)", 32),
    ("Q4_K", "kern_x86_q8.c", "dot_q8_part(acc, strip, panel, n, shift, SIMD_ROWS_Q8, 32, true, 32)", 32),
    ("Q6_K", "kern_x86_q8.c", "dot_q8_part(acc, strip, panel, n, shift, SIMD_ROWS_Q8, 16, false, 8)", 16),
]
NEON = [
    ("Q4_0", "kern_neon_q8.c", "dot_rows(acc, strip, panel, n, SIMD_ROWS_Q8, 32, false)", 32),
    ("Q8_0", "kern_neon_q8.c", "dot_rows(acc, strip, panel, n, SIMD_ROWS_Q8, 32, false)", 32),
    ("Q4_K", "kern_neon_q8.c", "dot_rows(acc, strip, panel, n, SIMD_ROWS_Q8, 32, true)", 32),
    ("Q6_K", "kern_neon_q8.c", "dot_rows(acc, strip, panel, n, SIMD_ROWS_Q8, 16, false)", 32),
]
TILES = [
    ("Q4_0", "kern_tile.c", "dot_tiles(acc, strip, panel, n, shift, 32, false)", 32),
    ("Q8_0", "kern_tile.c", "dot_tiles(acc, strip, panel, n, shift, 32, false)", 32),
    ("Q4_K", "kern_tile.c", "dot_tiles(acc, strip, panel, n, shift, 32, true)", 32),
    ("Q6_K", "kern_tile.c", "dot_tiles(acc, strip, panel, n, shift, 16, false)", 16),
]
ONE = [(name.upper(), "kern_simd_strip.c", f"rows_of(acc, packed, &panel, 1, n, layout_{name.lower()}, group_{name.lower()})", values)
       for name, values in (("q4_0", 32), ("q8_0", 32), ("q4_K", 256), ("q6_K", 256), ("iq4_XS", 256))]

WRAPPER = """
#define ARGUMENTS struct acc acc, const uint8_t *packed, struct code_strip strip, struct panel panel, size_t n, int shift
void counted_{i}(ARGUMENTS);
void counted_{i}(ARGUMENTS)
{{
    panel.n_rows = {rows};
    {call};
}}
"""
JUMP = re.compile(r"(j\w+|b|b\.\w+|cbn?z|tbn?z)$")


def bits(arguments):
    return 512 if "zmm" in arguments else 256 if "ymm" in arguments else 128


def multiply_adds(name, arguments, block):
    """Of 8-bit codes, in one instruction. block: columns of one product of tiles."""
    if name in ("vpdpbusd", "vpmaddubsw"):
        return bits(arguments) // 8
    if name in ("sdot", "usdot"):
        return 16
    if name in ("smmla", "usmmla"):
        return 32
    if re.match(r"[su]ml?[la]l2?$|[su]mull2?$", name) and ".8h" in arguments:
        return 8
    return 16 * 16 * block if name == "tdpbsud" else 0


class Loop:
    def __init__(self, first, last):
        self.first, self.last, self.inner = first, last, []

    def holds(self, other):
        return self.first <= other.first and other.last <= self.last and other is not self

    def own(self, lines):
        return [line for line in lines if self.first <= line[0] <= self.last
                and not any(i.first <= line[0] <= i.last for i in self.inner)]

    def count(self, lines, block):
        """Instructions and multiply-adds of one turn, without those of the loops inside."""
        own = self.own(lines)
        return len(own), sum(multiply_adds(*line[1:], block) for line in own)


def parse(text, i):
    body = re.search(rf"<counted_{i}>:\n(.*?)(\n\n|\Z)", text, re.S).group(1)
    same = re.match(r"\s*[0-9a-f]+:\t(?:jmp|b)\s+\S+ <counted_(\d+)>", body.splitlines()[-1 if "endbr" in body else 0])
    if same:  # the compiler saw that it is the same as another
        return parse(text, int(same[1]))
    found = (re.match(r"\s*([0-9a-f]+):\t(\S+)\s*(.*)", line) for line in body.splitlines())
    return [(int(m[1], 16), m[2], m[3]) for m in found if m]


def loops_of(lines, block):
    """The outermost loops that multiply, each with the loops inside it that do."""
    loops = []
    for at, name, arguments in lines:
        target = JUMP.match(name) and re.search(r"\b([0-9a-f]+) <counted_", arguments)
        if target and lines[0][0] <= int(target[1], 16) <= at:
            loops.append(Loop(int(target[1], 16), at))
    by_start = {}
    for loop in loops:  # several ways back to the same start are one loop
        if loop.first not in by_start or loop.last > by_start[loop.first].last:
            by_start[loop.first] = loop
    loops = [loop for loop in by_start.values() if loop.count(lines, block)[1] > 0]
    for loop in loops:
        inside = [o for o in loops if loop.holds(o)]
        loop.inner = [o for o in inside if not any(p.holds(o) for p in inside)]
    return [loop for loop in loops if not any(o.holds(loop) for o in loops)]


def cost(loop, lines, block, expected):
    """Instructions of one turn of a loop that makes `expected` multiply-adds in a turn."""
    n, products = loop.count(lines, block)
    if not loop.inner:
        return n * expected / products
    inner = [(cost(i, lines, block, once), once)
             for i in loop.inner for once in [total(i, lines, block)]]
    turns = (expected - products) / sum(once for _, once in inner)
    return n + turns * sum(c for c, _ in inner)


def total(loop, lines, block):
    return loop.count(lines, block)[1] + sum(total(i, lines, block) for i in loop.inner)


def block_loops(loops, lines, block, expected):
    """Of nested loops the innermost that goes through whole blocks: integer sums become floats in it, and when
    it has no loops inside, it makes a whole block's multiply-adds."""
    for loop in loops:
        below = list(block_loops(loop.inner, lines, block, expected))
        converts = any(name in ("vcvtdq2ps", "scvtf") for _, name, _ in loop.own(lines))
        if below:
            yield from below
        elif (converts and loop.inner) or total(loop, lines, block) >= expected or any(
                name in ("vcvtdq2ps", "scvtf") for i in loop.inner for _, name, _ in i.own(lines)):
            yield loop


def macro(command, name, folder):
    """What the level's header defines a name as."""
    source = pathlib.Path(folder) / "macro.c"
    source.write_text(f'#include "compute/cpu/simd.h"\nint value = (int){name};\n')
    text = subprocess.run(command + ["-S", "-o", "-", str(source)], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"\.(?:long|word)\s+(\d+)", text)[1])


def counts(command, objdump, products, rows, lanes, folder):
    """Instructions per thousand multiply-adds of each product; all are in one file."""
    source = pathlib.Path(folder) / "counted.c"
    target = pathlib.Path(folder) / "counted.o"
    source.write_text(f'#include "compute/cpu/{products[0][1]}"\n' + "".join(
        WRAPPER.format(i=i, call=call, rows=rows) for i, (_, _, call, _) in enumerate(products)))
    subprocess.run(command + ["-w", "-c", "-o", str(target), str(source)], check=True)
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", str(target)], capture_output=True, text=True,
                          check=True).stdout.replace("{vex} ", "")
    found = []
    for i, (_, _, _, values) in enumerate(products):
        lines = parse(text, i)
        expected = rows * lanes * values
        loops = block_loops(loops_of(lines, values), lines, values, expected)
        # Beside the loop for many blocks compilers leave copies for odd ones.
        found.append(1000 * min(cost(loop, lines, values, expected) for loop in loops) / expected)
    return found


def levels_of(build):
    """name -> (compiler and its flags, objdump), for each level in a build folder."""
    levels = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        level = re.search(r"libkern_(\w+)\.a\.p/.*kern_(simd_strip|tile)\.c", entry["output"])
        if not level or level[1].endswith("twin"):
            continue
        words = shlex.split(entry["command"])
        keep, skip = [], False
        for word in words:
            if skip or word in ("-c", entry["file"]):
                skip = False
            elif word in ("-o", "-MF", "-MQ", "-MT"):
                skip = True
            elif not word.startswith(("-MD", "-Werror", "-g")):
                keep.append(word if not word.startswith("-I") else "-I" + str((build / word[2:]).resolve()))
        prefix = re.match(r"(.*-)?(?:gcc|cc|clang)$", pathlib.Path(keep[0]).name)
        levels[level[1]] = (keep, (prefix and prefix[1] or "") + "objdump")
    return levels


def main():
    builds = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]]
    if not builds or any(not (b / "compile_commands.json").exists() for b in builds):
        sys.exit(__doc__)
    names = [p[0] for p in MANY], [p[0] for p in ONE]
    print("| level | rows of x | " + " | ".join(names[0]) + " | one row: " + " | ".join(names[1]) + " |")
    print("|---" * (2 + len(MANY) + len(ONE)) + "|")
    for build in builds:
        for level, (command, objdump) in levels_of(build).items():
            with tempfile.TemporaryDirectory() as folder:
                is_tile = level.endswith("amx")
                lanes = LANES if is_tile else macro(command, "SIMD_LANES", folder)
                rows = 16 if is_tile else macro(command, "SIMD_ROWS_Q8", folder)
                products = TILES if is_tile else NEON if level.startswith("neon") else MANY
                many = counts(command, objdump, products, rows, lanes, folder)
                one = [] if is_tile else counts(command, objdump, ONE, 1, LANES, folder)
            cells = [f"{c:.0f}" for c in many + one] + [""] * (len(ONE) - len(one))
            print(f"| `{level}` | {rows} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
