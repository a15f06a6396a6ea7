#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ask a carat program the demo's questions and score its answers.

  evaluate.py CARAT [--kinds text,tool,think] [--show] [--at-least KIND=SHARE ...]

Prints the share of exact answers per task, and with --show every wrong one. Questions with pictures, sound or
films are left out of the kinds by default. Exit code 1 when a kind stays below what --at-least asks of it.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def ask(program, row):
    talk = {"messages": row["messages"]}
    if row["tools"]:
        talk["tools"] = row["tools"]
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as f:
        json.dump(talk, f)
    try:
        command = [program, "run", os.path.join(HERE, "carat-demo.gguf"), "--messages", f.name, "--json",
                   "--temperature", "0", "--max-tokens", "128"] + (["--think"] if row["thinking"] else [])
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"{row['id']}: {done.stderr.strip()}")
        return json.loads(done.stdout)
    finally:
        os.unlink(f.name)


def expected_call(text):
    """A call in the model's own notation to a name and arguments; only strings and numbers occur."""
    m = re.match(r"<\|tool_call>call:([^{]+)\{(.*)\}<tool_call\|>$", text)
    if not m:
        return None
    arguments = {}
    for key, string, bare in re.findall(r'(\w+):(?:<\|"\|>(.*?)<\|"\|>|([^,}]+))', m.group(2)):
        arguments[key] = json.loads(bare) if bare else string
    return m.group(1), arguments


def is_right(row, answer):
    call = expected_call(row["expected"])
    if not call:
        return answer["content"].strip() == row["expected"].strip() and not answer.get("tool_calls")
    calls = answer.get("tool_calls") or []
    if len(calls) != 1:
        return False
    function = calls[0].get("function", calls[0])
    arguments = function["arguments"]
    return (function["name"], json.loads(arguments) if isinstance(arguments, str) else arguments) == call


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("carat")
    p.add_argument("--kinds", default="text,tool,think")
    p.add_argument("--show", action="store_true")
    p.add_argument("--at-least", action="append", default=[], metavar="KIND=SHARE")
    a = p.parse_args()
    kinds = a.kinds.split(",")
    score = {k: [0, 0] for k in kinds}
    with open(os.path.join(HERE, "eval", "questions.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    for row in rows:
        kind = row["kind"].split(":")[0]
        if kind not in score:
            continue
        answer = ask(a.carat, row)
        right = is_right(row, answer)
        score[kind][0] += right
        score[kind][1] += 1
        if a.show and not right:
            print(f"{row['id']}: expected {row['expected']!r}, found {answer['content']!r} {answer.get('tool_calls') or ''}")
    failed = False
    wanted = dict(x.split("=") for x in a.at_least)
    for kind, (right, total) in score.items():
        share = right / total if total else 0
        note = ""
        if kind in wanted:
            failed = failed or share < float(wanted[kind])
            note = f", at least {wanted[kind]} expected"
        print(f"{kind:8} {right} of {total} right: {share:.2f}{note}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
