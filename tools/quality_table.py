#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each type of carat quantize costs in quality: a table in Markdown, with what was measured as JSON beside it.

  tools/quality_table.py build/carat --model gemma-BF16.gguf --text wiki.txt --work table

The logits of the model are recorded once; then each type is made, measured against them and removed again, so that
one of them is on the disk at a time. What the work folder holds is not done again: stopped at any moment, the same
command goes on."""
import argparse
import json
import os
import subprocess
import sys

TYPES = ("F16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_K Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_K Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q3_K "
         "Q2_K").split()


def size_text(size):
    for unit, power in (("GB", 1e9), ("MB", 1e6)):
        if size >= power:
            return f"{size / power:.2f} {unit}"
    return f"{size / 1e3:.1f} KB"


class Table:
    def __init__(self, options):
        self.o = options
        self.logits = os.path.join(options.work, "reference.logits")
        self.rule = ["--quiet", "--json"]
        for name in ("context", "stride", "skip", "tokens", "threads"):
            value = getattr(options, name)
            if value is not None:
                self.rule += ["--" + name, str(value)]
        self.rule += ["--special"] if options.special else []

    def run(self, *words):
        print("#", " ".join([self.o.carat, *words]), file=sys.stderr, flush=True)
        done = subprocess.run([self.o.carat, *words], stdout=subprocess.PIPE)
        if done.returncode:
            sys.exit(done.returncode)
        return done.stdout.decode("utf-8")

    def evaluate(self, name, *words):
        """The answer of an earlier run, or of one now."""
        path = os.path.join(self.o.work, name + ".json")
        if not os.path.exists(path):
            out = self.run("eval", *self.rule, *words, "--", *self.o.text)
            with open(path + ".part", "w", encoding="utf-8") as f:
                f.write(out)
            os.replace(path + ".part", path)
        with open(path, encoding="utf-8") as f:
            return json.load(f)

    def reference(self):
        if not os.path.exists(self.logits) and os.path.exists(os.path.join(self.o.work, "reference.json")):
            os.remove(os.path.join(self.o.work, "reference.json"))
        return self.evaluate("reference", "--save-logits", self.logits, self.o.model)

    def measure(self, kind):
        made = os.path.join(self.o.work, kind.replace(":", "-") + ".gguf")
        if not os.path.exists(os.path.join(self.o.work, kind + ".json")) and not os.path.exists(made):
            imatrix = ["--imatrix", self.o.imatrix] if self.o.imatrix else []
            self.run("quantize", self.o.model, made, kind, "--projector-place", "none", "--quiet", *imatrix)
        answer = self.evaluate(kind, "--against", self.logits, made)
        if not self.o.keep and os.path.exists(made):
            os.remove(made)
        return answer


def mean_text(mean, digits):
    return f"{mean['mean']:.{digits}f} ± {mean['error']:.{digits}f}"


def perplexity_text(value):
    return f"{value:.4f}" if value < 1e3 else f"{value:.0f}"


def write_table(reference, answers):
    first = reference["models"][0]
    domains = [d["domain"] for d in first["domains"]]
    print(f"{reference['tokens']:,} tokens ({first['bytes_of_text']:,} bytes) in {reference['windows']:,} windows of at most "
          f"{reference['context']}. The reference has {size_text(first['bytes'])}, "
          f"{first['bits_per_weight']:.2f} bits per weight.\n")
    print("| type | bytes | bits per weight | ratio of perplexities | KL mean | KL 99 % | KL largest | same top |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, answer in answers:
        m = answer["models"][0]
        print(f"| {kind} | {size_text(m['bytes'])} | {m['bits_per_weight']:.2f} | {mean_text(m['perplexity_ratio'], 4)} | "
              f"{mean_text(m['kl'], 5)} | {m['kl_99']:.4f} | {m['kl_max']:.3f} | {100 * m['same_top']['mean']:.2f} % |")
    print("\nBy domain: perplexity, mean KL divergence, share of tokens with the same top.\n")
    print("| type | " + " | ".join(domains) + " |")
    print("|---" * (len(domains) + 1) + "|")
    print("| reference | " + " | ".join(perplexity_text(d["perplexity"]["mean"]) for d in first["domains"]) + " |")
    for kind, answer in answers:
        print(f"| {kind} | " + " | ".join(
            f"{perplexity_text(d['perplexity']['mean'])}, {d['kl']['mean']:.5f}, {100 * d['same_top']['mean']:.1f} %"
            for d in answer["models"][0]["domains"]) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("carat")
    p.add_argument("--model", required=True, help="what the others are made from, and compared with")
    p.add_argument("--text", required=True, nargs="+")
    p.add_argument("--work", default="quality-table", help="folder for what is measured (quality-table)")
    p.add_argument("--types", default=",".join(TYPES), help="with commas; auto:SIZE is one, too")
    p.add_argument("--imatrix")
    for name in ("context", "stride", "skip", "tokens", "threads"):
        p.add_argument("--" + name, type=int)
    p.add_argument("--special", action="store_true")
    p.add_argument("--svg", help="a drawing of quality against bytes")
    p.add_argument("--keep", action="store_true", help="leave the models in the folder")
    o = p.parse_args()
    o.carat = os.path.abspath(o.carat)
    os.makedirs(o.work, exist_ok=True)
    # Answers to other questions are not taken for answers.
    asked = json.dumps({k: v for k, v in sorted(vars(o).items()) if k not in ("carat", "work", "keep", "svg", "types", "threads")})
    path = os.path.join(o.work, "asked.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            if f.read() != asked:
                sys.exit(f"{o.work}: holds figures of another model, other texts or other options: remove it, or name "
                         "another folder with --work")
    with open(path, "w", encoding="utf-8") as f:
        f.write(asked)
    table = Table(o)
    reference = table.reference()
    answers = [(kind, table.measure(kind)) for kind in o.types.split(",")]
    if o.svg:
        table.run("eval", "--svg", o.svg, *(os.path.join(o.work, kind + ".json") for kind, _ in answers))
    write_table(reference, sorted(answers, key=lambda a: -a[1]["models"][0]["bytes"]))


if __name__ == "__main__":
    main()
