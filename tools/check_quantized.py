#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds files that carat quantizes against llama.cpp: it opens them and gives the same logits, and its own
of the same type lose no less. docs/quantize.md shows the tables.

  check_quantized.py [MODEL ...] [--types Q4_K_M,Q8_0] [--only opens,loses] [--imatrix FILE]

MODEL is a GGUF file or a Hugging Face directory that carat runs; without one, the demonstration model and
the test fixture. A quantized model is dequantized first. Texts are the demonstration's questions with their
answers where a model has a chat template, else made-up tokens.

opens   For every type: llama.cpp loads the file and finds the vocabulary, the special tokens and the chat
        template, cuts texts into the same tokens, and its logits are carat's. "engines" is the root of the
        mean square of the difference between llama.cpp's logits and those of carat with float activations,
        "int8" that between carat's usual ones and those, "type" that between the file and what it was made
        of; all in standard deviations of the logits. llama.cpp rounds activations to 8 bits (16 where
        weights have 16), so two engines differ by about that.
loses   For every type that llama.cpp writes, by its recipe and purely: error of the weights (with --imatrix
        weighted as both were told) and mean KL divergence of the logits (carat, float activations), of the
        file that carat makes and the one that llama.cpp makes; "+-" is the standard error of the difference
        over tokens.

The Python needs llama-cpp-python, numpy and gguf: this one, or that of --python or CARAT_PEER_PYTHON.
Exits with 1 if a file is not opened, logits differ, or weights lose more than llama.cpp's."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHILD = os.path.join(ROOT, "tools", "quantized_child.py")
FLOATS = {"F32": 2e-3, "F16": 1e-2, "BF16": 3e-2}  # what engines may differ by
PLAIN = ["Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K"]
MIXES = ["Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S"]
FTYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14,
          "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
          "Q5_K": 16, "Q4_K": 14, "Q3_K": 11}  # the last three of pure files only
ENGINES_MAX = 0.06  # standard deviations of the logits: 8-bit activations cost each engine 0.01 to 0.03
SAME = 1.0001
# Facts of the file, not of the model: by whom it was made, and how.
MAKER_KEYS = {"general.file_type", "general.quantization_version", "general.size_label"}


def find_python():
    """Goes on in the Python that has the peer."""
    python = os.environ.get("CARAT_PEER_PYTHON")
    if "--python" in sys.argv[:-1]:
        python = sys.argv[sys.argv.index("--python") + 1]
    try:
        import gguf, llama_cpp, numpy  # noqa: F401, E401
    except ImportError as e:
        built = os.path.join(ROOT, "build-peers", "venv", "bin", "python")
        python = python or (built if os.path.exists(built) else None)
        if not python or os.environ.get("CARAT_PEER_FOUND"):
            sys.exit(f"check_quantized: {e}; name a Python with llama-cpp-python, numpy and gguf: CARAT_PEER_PYTHON or --python")
        os.environ["CARAT_PEER_FOUND"] = "1"
        try:
            os.execv(python, [python, *sys.argv])
        except OSError as failure:
            sys.exit(f"check_quantized: {python}: {failure.strerror}")


def run(words, text=None, may_fail=False):
    done = subprocess.run([str(w) for w in words], input=text, stdin=None if text is not None else subprocess.DEVNULL,
                          capture_output=True, encoding="utf-8")
    if done.returncode and not may_fail:
        sys.exit(f"check_quantized: {' '.join(map(str, words))}\n{done.stderr[-2000:]}")
    return done


def last_line(text):
    return (text.strip().splitlines() or ["no word"])[-1]


class Model:
    """A source, what it was asked, and its logits."""

    def __init__(self, options, path, scratch):
        import gguf
        self.options, self.path, self.scratch = options, path, scratch
        self.name = "/".join(os.path.abspath(path).split(os.sep)[-3:])
        self.base = os.path.join(scratch, "base.gguf")
        # Floats for both; a quantized source by what its blocks say.
        is_quantized = os.path.isfile(path) and any(t.tensor_type.name not in ("F32", "F16", "BF16") for t in gguf.GGUFReader(path).tensors)
        run([options.carat, "convert", path, self.base, "--no-projector", "--force", "--quiet",
             *(["--type", "f32"] if is_quantized else [])])
        reader = gguf.GGUFReader(self.base)
        self.keys = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
        self.vocabulary = self.keys["tokenizer.ggml.tokens"].contents()
        self.template = self.keys["tokenizer.chat_template"].contents() if "tokenizer.chat_template" in self.keys else ""
        self.texts = self.find_texts() if self.template else ["hello the there", "  a\n\n1234 x\u00e9\u4e2d"]
        self.tokens = [self.tokenize(text) for text in self.texts] if self.template else self.make_up()
        # Of a member of the family that carat does not run: what the peer makes of the source.
        self.is_run = run([options.carat, "run", self.base, "x", "--max-tokens", "1", "--quiet"], may_fail=True).returncode == 0
        self.want = self.carat_logits(self.base, "float") if self.is_run else self.ask_peer(self.base)[1]
        if self.want is None:
            sys.exit(f"check_quantized: {path}: neither carat nor llama.cpp runs it: {self.ask_peer(self.base)[0]}")
        self.spread = float(self.want.std())

    def find_texts(self):
        with open(os.path.join(ROOT, "demo", "eval", "questions.jsonl"), encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        texts = []
        for row in rows:
            parts = [m["content"] for m in row["messages"]]
            if all(isinstance(p, str) for p in parts) or all(x["type"] == "text" for p in parts if not isinstance(p, str) for x in p):
                said = [(m["role"], m["content"] if isinstance(m["content"], str) else "".join(x["text"] for x in m["content"]))
                        for m in row["messages"]]
                turns = "".join(f"<|turn>{'model' if role == 'assistant' else role}\n{text}<turn|>\n" for role, text in said)
                texts.append(f"<bos>{turns}<|turn>model\n{row['expected']}<turn|>")
        return texts

    def tokenize(self, text):
        return [int(t) for t in run([self.options.carat, "tokenize", self.base, "--special", "--", text]).stdout.split()]

    def make_up(self):
        """Tokens of every kind but control."""
        import numpy as np
        types = self.keys["tokenizer.ggml.token_type"].contents() if "tokenizer.ggml.token_type" in self.keys else [1] * len(self.vocabulary)
        usual = [i for i, kind in enumerate(types) if kind not in (3, 4, 5) and not self.vocabulary[i].startswith("<")]
        chance = np.random.default_rng(5)
        return [[2, *map(int, chance.choice(usual, 63))] for _ in range(12)]

    def carat_logits(self, path, activations):
        import numpy as np
        lines = "".join(" ".join(map(str, tokens)) + "\n" for tokens in self.tokens)
        done = subprocess.run([self.options.logits, path, activations], input=lines.encode(), capture_output=True)
        if done.returncode:
            sys.exit(f"check_quantized: {done.stderr.decode()}")
        return np.frombuffer(done.stdout, np.float32).reshape(-1, len(self.vocabulary))

    def rms(self, a, b):
        import numpy as np
        return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2))) / self.spread

    def divergence(self, logits):
        """By token: KL from the source's distribution to this one."""
        import numpy as np
        p, q = (x.astype(np.float64) - x.max(axis=1, keepdims=True) for x in (self.want, logits))
        p, q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (p, q))
        return (np.exp(p) * (p - q)).sum(axis=1)

    def make(self, kind, path, is_pure=False):
        words = ["--imatrix", self.options.imatrix] if self.options.imatrix else []
        run([self.options.carat, "quantize", self.base, path, kind, "--force", "--quiet", *words, *(["--pure"] if is_pure else [])])

    def ask_peer(self, path):
        """What the peer reads in the file, and its logits; or a sentence."""
        import numpy as np
        out = os.path.join(self.scratch, "logits")
        request = json.dumps({"tokens": self.tokens, "texts": self.texts[:20], "threads": self.options.threads})
        done = run([sys.executable, CHILD, "load", path, out], request, may_fail=True)
        if done.returncode:
            return last_line(done.stderr), None
        return json.loads(done.stdout), np.fromfile(out, np.float32).reshape(-1, len(self.vocabulary))

    def peer_makes(self, kind, path, is_pure):
        request = {"source": self.base, "target": path, "ftype": FTYPES[kind], "is_pure": is_pure, "threads": self.options.threads,
                   "imatrix": self.options.imatrix}
        done = run([sys.executable, CHILD, "quantize", json.dumps(request)], may_fail=True)
        return last_line(done.stderr) if done.returncode else None


def check_facts(model, facts):
    """What the peer read, held against what the file's source says."""
    problems = []
    if facts["n_vocab"] != len(model.vocabulary):
        problems.append(f"{facts['n_vocab']} tokens")
    if facts["template"] != model.template:
        problems.append("another chat template")
    missing = [key for key, field in model.keys.items() if not hasattr(field.contents(), "append") and key not in facts["keys"]]
    if missing:
        problems.append("no " + ", ".join(missing))
    for key, name in (("tokenizer.ggml.bos_token_id", "bos"), ("tokenizer.ggml.eos_token_id", "eos")):
        if key in model.keys and facts[name] != model.keys[key].contents():
            problems.append(f"{name} is {facts[name]}")
    for text, tokens in zip(model.texts, facts["tokens"]):
        if tokens != model.tokenize(text):
            problems.append(f"{text[:40]!r} has other tokens")
            break
    return problems


def opens(model, kinds):
    print(f"{model.name}: {sum(map(len, model.tokens))} tokens\n")
    if not model.is_run:
        print("carat does not run it: llama.cpp's logits of the file and of its source\n")
    print("| type | bytes | engines | int8 | type | KL | same first token: engines | type |\n|---|---|---|---|---|---|---|---|")
    n_problems, path = 0, os.path.join(model.scratch, "made.gguf")
    for kind in kinds:
        model.make(kind, path)
        facts, theirs = model.ask_peer(path)
        if theirs is None:
            print(f"| {kind} | {os.path.getsize(path)} | not opened: {facts} |", flush=True)
            n_problems += 1
            continue
        exact, usual = [model.carat_logits(path, x) for x in ("float", "auto")] if model.is_run else (theirs, theirs)
        engines, int8, loss = model.rms(theirs, exact), model.rms(usual, exact), model.rms(exact, model.want)
        problems = check_facts(model, facts)
        if engines > FLOATS.get(kind, ENGINES_MAX) or int8 > max(1.5 * engines, 1e-3):
            problems.append("logits differ")
        agree = [100 * float((a.argmax(1) == b.argmax(1)).mean()) for a, b in ((theirs, usual), (exact, model.want))]
        print(f"| {kind} | {os.path.getsize(path)} | {engines:.4f} | {int8:.4f} | {loss:.4f} | {model.divergence(exact).mean():.5f} | "
              f"{agree[0]:.1f} % | {agree[1]:.1f} % |" + "".join(f" PROBLEM: {p}" for p in problems), flush=True)
        n_problems += len(problems)
    print()
    return n_problems


def weights_lost(base, path, imatrix):
    """By tensor that is quantized in the file: (type, sum of squared errors, sum of squares), weighted by importance."""
    import gguf
    import numpy as np
    old = {t.name: t for t in gguf.GGUFReader(base).tensors}
    sums = {t.name: t.data.reshape(-1).astype(np.float64) for t in gguf.GGUFReader(imatrix).tensors} if imatrix else {}
    lost = {}
    for t in gguf.GGUFReader(path).tensors:
        if t.tensor_type.name in ("F32", "F16", "BF16"):
            continue
        was = gguf.dequantize(old[t.name].data, old[t.name].tensor_type).astype(np.float64)
        weights = sums.get(t.name + ".in_sum2", np.ones(1))
        weights = weights / weights.mean()
        lost[t.name] = (t.tensor_type.name, float((weights * (gguf.dequantize(t.data, t.tensor_type) - was) ** 2).sum()),
                        float((weights * was ** 2).sum()))
    return lost


def compare(model, kind, is_pure):
    import numpy as np
    ours, theirs = (os.path.join(model.scratch, name + ".gguf") for name in ("ours", "theirs"))
    model.make(kind, ours, is_pure)
    problem = model.peer_makes(kind, theirs, is_pure)
    name = kind + (" pure" if is_pure else "")
    if problem:
        print(f"| {name} | llama.cpp: {problem} |")
        return 0
    a, b = (weights_lost(model.base, path, model.options.imatrix) for path in (ours, theirs))
    same = [t for t in a if t in b and a[t][0] == b[t][0]]
    others = sorted({t.split(".")[-2] + f" {a[t][0]}/{b[t][0]}" for t in a if t in b and a[t][0] != b[t][0]} | {t for t in a if t not in b})
    rmse = [sum(x[t][1] for t in x) ** 0.5 / sum(x[t][2] for t in x) ** 0.5 for x in (a, b)]
    worst = max([(a[t][1] / b[t][1] if b[t][1] > 0 else 1.0) ** 0.5 for t in same] or [0])
    found = [model.carat_logits(path, "float") for path in (ours, theirs)]
    kl = [model.divergence(x) for x in found]
    difference = kl[0] - kl[1]
    error = difference.std() / np.sqrt(len(difference))
    agree = [100 * float((x.argmax(1) == model.want.argmax(1)).mean()) for x in found]
    sizes = [os.path.getsize(path) for path in (ours, theirs)]
    is_worse = (not others and rmse[0] > rmse[1] * SAME) or worst > SAME
    print(f"| {name} | {sizes[0]} | {sizes[1]} | {100 * rmse[0]:.3f} | {100 * rmse[1]:.3f} | {worst:.3f} | {kl[0].mean():.5f} | {kl[1].mean():.5f} | "
          f"{difference.mean():+.5f} +- {error:.5f} | {agree[0]:.1f} | {agree[1]:.1f} |" + (f" other types: {', '.join(others)}" if others else "") +
          (" PROBLEM" if is_worse else ""), flush=True)
    return is_worse


def loses(model, kinds):
    print(f"{model.name}: carat and llama.cpp\n")
    print("| type | bytes, carat | llama.cpp | weights, %: carat | llama.cpp | worst tensor, ratio | KL, carat | llama.cpp | difference | "
          "same first token, %: carat | llama.cpp |\n|" + "---|" * 11)
    n_problems = 0
    for kind in kinds:
        if kind in FTYPES:
            n_problems += compare(model, kind, True) if kind in PLAIN else 0
            n_problems += compare(model, kind, False) if kind not in ("Q5_K", "Q4_K", "Q3_K") else 0
    print()
    return n_problems


def main():
    find_python()
    import llama_cpp
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--carat", default=os.path.join(ROOT, "build", "carat"))
    parser.add_argument("--logits", default=os.path.join(ROOT, "build", "tests", "golden", "all_logits"))
    parser.add_argument("--python", help="a Python that has llama_cpp; CARAT_PEER_PYTHON says it, too")
    parser.add_argument("--types", default=",".join([*FLOATS, *PLAIN, *MIXES]))
    parser.add_argument("--only", default="opens,loses")
    parser.add_argument("--imatrix", help="an imatrix file in GGUF, for both")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    models = options.models or [os.path.join(ROOT, "demo", "carat-demo.gguf"),
                                os.path.join(ROOT, "tests", "data", "fixtures", "unified-text", "model")]
    print(f"llama.cpp of llama-cpp-python {llama_cpp.__version__}, {time.strftime('%Y-%m-%d')}\n")
    n_problems = 0
    for path in models:
        with tempfile.TemporaryDirectory() as scratch:
            model = Model(options, path, scratch)
            kinds = options.types.split(",")
            n_problems += opens(model, kinds) if "opens" in options.only else 0
            n_problems += loses(model, kinds) if "loses" in options.only and model.is_run else 0
    print(f"{n_problems} problems")
    return n_problems > 0


if __name__ == "__main__":
    sys.exit(main())
