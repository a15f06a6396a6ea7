#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ask a carat program the demo's questions and score its answers.

  evaluate.py CARAT [--kinds image,audio,video,text,tool,think] [--show] [--check SCORES]

Prints the share of exact answers per task, and with --show every wrong one. The questions are those of
eval/questions.jsonl, or of another folder with --eval; pictures are shown with 70 tokens and films with 4 frames, as
the model was trained. --json writes the scores; --check compares with such a file, the model card's, and fails when a
task stays more than --points below it.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ["image", "audio", "video", "text", "tool", "think"]


def with_full_paths(messages, folder):
    """The same messages, their media named from the root."""
    out = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            content = [dict(p, path=os.path.join(folder, p["path"])) if "path" in p else p for p in content]
        out.append(dict(message, content=content))
    return out


def ask(program, model, row, folder):
    talk = {"messages": with_full_paths(row["messages"], folder)}
    if row["tools"]:
        talk["tools"] = row["tools"]
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as f:
        json.dump(talk, f)
    try:
        command = [program, "run", model, "--image-tokens", "70", "--video-frames", "4", "--messages", f.name, "--json",
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


def share(score):
    return score["right"] / score["of"] if score["of"] else 0.0


def print_table(scores, stated, points):
    """One line a task, those of a kind under it; returns the tasks that miss what was stated."""
    missed = []
    print(f"{'task':16} {'right':>6} {'of':>4} {'share':>7}" + (f" {'stated':>7}" if stated else ""))
    for kind in [k for k in KINDS if k in scores]:
        for task in [kind] + sorted(t for t in scores if t.startswith(kind + ":")):
            line = f"{'  ' * (':' in task) + task:16} {scores[task]['right']:6} {scores[task]['of']:4} {100 * share(scores[task]):6.1f}%"
            if task in stated:
                line += f" {100 * share(stated[task]):6.1f}%"
                if share(scores[task]) < share(stated[task]) - points / 100 - 1e-9:
                    line += f"  more than {points:g} points below"
                    missed.append(task)
            print(line)
    return missed


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("carat")
    p.add_argument("--model", default=os.path.join(HERE, "carat-demo.gguf"))
    p.add_argument("--eval", default=os.path.join(HERE, "eval"), metavar="FOLDER")
    p.add_argument("--kinds", default=",".join(KINDS))
    p.add_argument("--show", action="store_true")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--check", metavar="FILE")
    p.add_argument("--points", type=float, default=2)
    a = p.parse_args()
    kinds = a.kinds.split(",")
    scores, stated = {}, {}
    if a.check:
        with open(a.check, encoding="utf-8") as f:
            stated = {task: s for task, s in json.load(f).items() if isinstance(s, dict) and s.get("of")}
    folder = os.path.abspath(a.eval)
    with open(os.path.join(folder, "questions.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    for row in rows:
        kind = row["kind"].split(":")[0]
        if kind not in kinds:
            continue
        answer = ask(a.carat, a.model, row, folder)
        right = is_right(row, answer)
        for task in {kind, row["kind"]}:
            score = scores.setdefault(task, {"right": 0, "of": 0})
            score["right"] += right
            score["of"] += 1
        if a.show and not right:
            print(f"{row['id']}: expected {row['expected']!r}, found {answer['content']!r} {answer.get('tool_calls') or ''}")
    missed = print_table(scores, stated, a.points)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(scores, f, indent=1, sort_keys=True)
            f.write("\n")
    if a.check and not any(task in stated for task in scores):
        sys.exit(f"{a.check} states nothing about these tasks")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
