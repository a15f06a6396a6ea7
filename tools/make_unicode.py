#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of src/cli/eval_tasks_unicode.c, from Python's Unicode database:

  tools/make_unicode.py > tables

Marks are what has the categories P (punctuation) and S (symbols); what is unassigned between two of them counts as
one, which makes the table shorter. Small letters are the simple case folding, where there is none the lower case, of
one character.
"""
import unicodedata


def is_mark(c):
    return unicodedata.category(chr(c))[0] in "PS"


def mark_ranges():
    ranges, gap = [], False
    for c in range(0x110000):
        if is_mark(c):
            if ranges and gap:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
            gap = True
        elif unicodedata.category(chr(c)) != "Cn":
            gap = False
    return ranges


def small(c):
    for text in (chr(c).casefold(), chr(c).lower()):
        if len(text) == 1:
            return ord(text)
    return c


def letter_ranges():
    """First, last, step, and what is added."""
    ranges = []
    for c in range(0x110000):
        add = small(c) - c
        if not add:
            continue
        if ranges:
            first, last, step, same = ranges[-1]
            if add == same and (c - last == step or (step == 0 and c - last <= 2)):
                ranges[-1] = [first, c, c - last, same]
                continue
        ranges.append([c, c, 0, add])
    return [[first, last, step or 1, add] for first, last, step, add in ranges]


def print_rows(items, per_line):
    for i in range(0, len(items), per_line):
        print("    " + ", ".join(items[i:i + per_line]) + ",")


print(f"// Unicode {unicodedata.unidata_version}.")
print_rows([f"{{0x{a:x}, 0x{b:x}}}" for a, b in mark_ranges()], 5)
print()
print_rows([f"{{0x{a:x}, 0x{b:x}, {s}, {d}}}" for a, b, s, d in letter_ranges()], 4)
