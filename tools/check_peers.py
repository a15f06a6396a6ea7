#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs carat and llama.cpp in turn on the same GGUF files and prints how they compare. docs/performance.md
says how each figure comes about.

  check_peers.py MODEL.gguf ... [--only decode,prefill] [--runs 3] [--json peers.json]

Each measurement is a process of its own; the two take turns, carat first, --runs times. Both get the same
file, threads, context and type of kv cache, 512 rows of a prompt at once, and a short run before the one
that counts. llama.cpp is tried with the file mapped or read and with or without repacked weights; each of
its figures is the best of these, which the table names. A ratio above 1 means that carat is better: faster,
sooner, smaller. Behind a median stand the least and the most of all runs, behind a ratio those of each turn.

llama.cpp comes as llama-cpp-python, which is built once, for this machine, into build-peers/ (about a
quarter of an hour); --python or CARAT_PEER_PYTHON names a Python that has it already."""
import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VERSION = "0.3.36"  # of llama-cpp-python
CHILD = os.path.join(ROOT, "tools", "peer_child.py")
MEMORY_CONTEXTS = (4096, 262144)
TRIES = 2  # of each way to keep the weights; the faster counts
GROUPS = ("decode", "prefill", "batch", "memory", "load", "busy")
VARIANTS = {  # how llama.cpp may keep the weights
    "mapped, repacked": {"mmap": True, "repack": True},
    "read, repacked": {"mmap": False, "repack": True},
    "mapped": {"mmap": True, "repack": False},
    "read": {"mmap": False, "repack": False},
}
NO_MODEL = """No MODEL named: this compares on the demonstration model, which is too small to say anything about
speed. A full-size file is any GGUF of Gemma 4 12B; for figures the weights may be random.
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def size_text(value):
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


class Figure:
    """One line of the table: what both took, run by run."""

    def __init__(self, name, unit):
        self.name, self.unit = name, unit  # "tokens/s", "s" or "bytes"
        self.carat = []
        self.share = []  # of the machine's limit
        self.peer = {}   # by variant

    def best(self):
        """The peer's variant that did best, by its median."""
        choose = max if self.unit == "tokens/s" else min
        return choose(self.peer, key=lambda v: statistics.median(self.peer[v])) if self.peer else None

    def ratio(self, ours, theirs):
        better, worse = (ours, theirs) if self.unit == "tokens/s" else (theirs, ours)
        return better / worse if worse > 0 else 0.0

    def ratios(self):
        """Of the medians, and of each turn."""
        best = self.best()
        if not self.carat or best is None:
            return None, []
        middle = self.ratio(statistics.median(self.carat), statistics.median(self.peer[best]))
        return middle, [self.ratio(a, b) for a, b in zip(self.carat, self.peer[best])]

    def as_json(self):
        middle, turns = self.ratios()
        return {"figure": self.name, "unit": self.unit, "carat": self.carat, "share_of_limit": self.share,
                "peer": self.peer, "peer_best": self.best(), "ratio": middle, "ratio_by_turn": turns}


class Comparison:
    """All that is measured on one model."""

    def __init__(self, options, model):
        self.options, self.model = options, model
        self.figures = {}
        self.problems = []
        self.names = list(options.variants)
        self.chosen = {}  # by group, the variants that are measured; all where it is missing
        self.info = {}

    def figure(self, name, unit):
        return self.figures.setdefault(name, Figure(name, unit))

    # ------------------------------------------------------------------------------ running either

    def run(self, who, words):
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self.options.timeout)
        except subprocess.TimeoutExpired:
            return self.problem(f"{who}: not done after {self.options.timeout} s")
        if done.returncode == 0:
            try:
                return json.loads(done.stdout)
            except ValueError:
                pass
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return self.problem(f"{who}: {last}")

    def problem(self, text):
        say(f"  {text}")
        self.problems.append(text)

    def carat(self, *words, kv_type="f16", context=None):
        words = [self.options.carat, "bench", self.model, "--json", "--runs", "1", "--threads", str(self.options.threads),
                 "--kv-type", kv_type, *[str(word) for word in words]]
        found = self.run("carat", words + (["--context", str(context)] if context else []))
        if found:
            self.info["carat"] = f"{found['weight_type']}, kernels for {found['cpu']}"
        return found

    def peer(self, variant, jobs, context, kv_type="f16", rows=1, is_for_memory=False):
        spec = {"model": self.model, "threads": self.options.threads, "context": context, "kv_type": kv_type,
                "rows": rows, "jobs": jobs, "is_for_memory": is_for_memory, **VARIANTS[variant]}
        found = self.run(f"llama.cpp ({variant})", [self.options.python, CHILD, json.dumps(spec)])
        if found and "error" in found:
            return self.problem(f"llama.cpp ({variant}): {found['error']}")
        if found:
            self.info["peer"] = f"llama-cpp-python {found['version']}: {found['system']}"
        return found

    def variants(self, group):
        return self.chosen.get(group, self.names)

    def turns(self, what):
        """Says where it stands, before each turn."""
        for turn in range(self.options.runs):
            say(f"  {what}: turn {turn + 1} of {self.options.runs}")
            yield turn

    # ------------------------------------------------------------------------------ the groups

    def screen(self):
        """Which variant is the peer's fastest, for each kind of work: the others are not measured further."""
        groups = [g for g in ("decode", "prefill", "batch", "busy") if g in self.options.only]
        if len(self.names) < 2 or self.options.every_variant or not groups:
            return
        jobs = [{"what": "decode", "depth": 0, "tokens": 8}, {"what": "prefill", "tokens": 128},
                {"what": "batch", "rows": 4, "tokens": 4}]
        found = {}
        for turn in range(TRIES):
            for variant in self.names:
                say(f"  trying llama.cpp with weights {variant}: turn {turn + 1} of {TRIES}")
                answer = self.peer(variant, jobs, 1024, rows=4)
                if answer:
                    before = found.get(variant, [0] * len(jobs))
                    found[variant] = [max(pair) for pair in zip(answer["jobs"], before)]
        if not found:
            return
        for group, i in (("decode", 0), ("prefill", 1), ("batch", 2), ("busy", 0)):
            self.chosen[group] = [max(found, key=lambda variant, at=i: found[variant][at])]
        self.info["tried"] = {variant: dict(zip(("decode", "prefill 128", "batch 4"), speeds)) for variant, speeds in found.items()}

    def speeds(self, group, figures, carat, peer):
        """A group whose figures are speeds: one process of each takes them all."""
        for _ in self.turns(group):
            found = carat()
            for name, pick in figures:
                row = pick(found) if found else None
                if row:
                    figure = self.figure(name, "tokens/s")
                    figure.carat.append(row["tokens_per_s"])
                    figure.share += [row["share_of_limit"]] if "share_of_limit" in row else []
            for variant in self.variants(group):
                found = peer(variant)
                for (name, _pick), speed in zip(figures, found["jobs"] if found else []):
                    self.figure(name, "tokens/s").peer.setdefault(variant, []).append(speed)

    def limits(self):
        return [] if self.options.no_limits else ["--limits"]

    def decode(self, group="decode", depths=None, beside=contextlib.nullcontext):
        n = self.options.tokens
        depths = self.options.depths if depths is None else depths
        depths = [d for d in depths if d + n < self.context_max]
        if not depths:
            return
        context = max(depths) + n + 1
        words = ["--prefill", 0, "--decode", n, "--depth", ",".join(map(str, depths)), *([] if group == "busy" else self.limits())]
        jobs = [{"what": "decode", "depth": depth, "tokens": n} for depth in depths]
        name = "beside two busy processes" if group == "busy" else "at depth {}"

        def picker(i):
            return lambda found: found["decode"][i]

        def carat():
            with beside():
                return self.carat(*words, context=max(context, 16))

        def peer(variant):
            with beside():
                return self.peer(variant, jobs, context)
        self.speeds(group, [("decode " + name.format(depth), picker(i)) for i, depth in enumerate(depths)], carat, peer)

    def busy(self):
        self.decode("busy", [0], busy_neighbours)

    def prefill(self):
        lengths = [n for n in self.options.lengths if n <= self.context_max]
        if not lengths:
            return
        words = ["--prefill", ",".join(map(str, lengths)), "--decode", 0, *self.limits()]
        jobs = [{"what": "prefill", "tokens": n} for n in lengths]

        def picker(i):
            return lambda found: found["prefill"][i]
        self.speeds("prefill", [(f"prefill {n}", picker(i)) for i, n in enumerate(lengths)],
                    lambda: self.carat(*words, context=max(lengths)),
                    lambda variant: self.peer(variant, jobs, max(lengths)))

    def batch(self):
        n = self.options.tokens
        rows = [1] + [r for r in self.options.rows if r > 1]
        words = ["--prefill", 0, "--depth", 0, "--decode", n, "--batch", ",".join(map(str, rows)), *self.limits()]
        jobs = [{"what": "batch", "rows": r, "tokens": n} for r in rows]
        context = -(-(n + 2) // 64) * 64  # of each

        def picker(r):
            return lambda found: next(row for row in found["batch"] if row["rows"] == r)
        self.speeds("batch", [(f"batch of {r}", picker(r)) for r in rows], lambda: self.carat(*words),
                    lambda variant: self.peer(variant, jobs, context * max(rows), rows=max(rows)))

    def memory(self):
        """Once: it does not vary. carat's cache is filled to its end, so that all its pages are there; the
        peer clears its own when it is made, which touches them as well."""
        contexts = [c for c in MEMORY_CONTEXTS if c <= self.context_max] or [self.context_max]
        for context in contexts:
            for kv_type in ("f16", "q8_0"):
                say(f"  memory: a context of {context}, cache in {kv_type}")
                figure = self.figure(f"memory, context {context}, {kv_type}", "bytes")
                prompt = min(512, context)
                found = self.carat("--prefill", prompt, "--decode", 4, "--depth", context - 4, kv_type=kv_type, context=context)
                figure.carat += [found["memory"]["measured_resident_peak"]] if found else []
                jobs = [{"what": "prefill", "tokens": prompt}]
                for variant in self.variants("memory"):
                    found = self.peer(variant, jobs, context, kv_type, is_for_memory=True)
                    if found:
                        figure.peer[variant] = [found["resident_peak"]]
                if figure.peer and not self.options.every_variant:
                    self.chosen["memory"] = [figure.best()]

    def load(self):
        read_through(self.model)
        for _ in self.turns("load"):
            found = self.carat("--prefill", 0, "--decode", 0, *self.limits(), context=512)
            for name, key in (("load", "load"), ("start to first token", "first_token")):
                figure = self.figure(name, "s")
                figure.carat += [found[key + "_s"]] if found else []
                share = found.get(key + "_share_of_limit") if found else None
                figure.share += [share] if share is not None else []
            for variant in self.names:
                found = self.peer(variant, [], 512)
                for name, key in (("load", "load_s"), ("start to first token", "first_token_s")):
                    if found:
                        self.figure(name, "s").peer.setdefault(variant, []).append(found[key])

    def measure(self):
        inspected = self.run("carat", [self.options.carat, "inspect", self.model, "--json"])
        if not inspected:
            return
        self.context_max = inspected["context_max"]
        self.screen()
        for group in GROUPS:
            if group in self.options.only:
                getattr(self, group)()

    # ------------------------------------------------------------------------------ showing it

    def lines(self):
        """The table's cells, and what stands below it."""
        yield ("", "carat", "of limit", "llama.cpp", "ratio", "its weights")
        for figure in self.figures.values():
            middle, turns = figure.ratios()
            best = figure.best()
            share = f"{100 * statistics.median(figure.share):.0f} %" if figure.share else ""
            yield (f"{figure.name}, {figure.unit}", spread(figure.carat, figure.unit), share,
                   spread(figure.peer.get(best, []), figure.unit), spread(turns, "", middle), best or "")
        one = self.figures.get("batch of 1")
        for name, figure in self.figures.items():
            if name.startswith("batch of ") and figure is not one:
                yield (f"{name} to batch of 1", to_one(figure.carat, one.carat), "",
                       to_one(figure.peer.get(figure.best()), one.peer.get(one.best())), "", "")

    def table(self):
        yield f"{os.path.basename(self.model)}: {self.info.get('carat', '')}"
        lines = list(self.lines())
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        for line in lines:
            cells = [cell.ljust(width) if i in (0, 5) else cell.rjust(width)
                     for i, (cell, width) in enumerate(zip(line, widths))]
            yield "  ".join(cells).rstrip()
        for variant, speeds in self.info.get("tried", {}).items():
            yield f"tried: weights {variant}: " + ", ".join(f"{name} {number(speed)} tokens/s" for name, speed in speeds.items())
        yield from (f"PROBLEM: {text}" for text in self.problems)


def number(value):
    return f"{value:.2f}" if value < 1000 else f"{value:.0f}"


def spread(values, unit, middle=None):
    """The median, or what stands for it, with the least and the most."""
    if not values:
        return "-"
    text = size_text if unit == "bytes" else number
    middle = text(statistics.median(values) if middle is None else middle)
    return f"{middle} ({text(min(values))}..{text(max(values))})" if len(values) > 1 else middle


def to_one(values, ones):
    return f"{statistics.median(values) / statistics.median(ones):.2f} x" if values and ones else "-"


@contextlib.contextmanager
def busy_neighbours():
    """Two processes that do nothing, as fast as they can."""
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def read_through(path):
    """Brings the file into the page cache, if it has room there."""
    with open(path, "rb", buffering=0) as f:
        block = bytearray(1 << 22)
        while f.readinto(block):
            pass


def machine():
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {size_text(memory)}"


def build_peer():
    """The Python that has llama.cpp, made if need be."""
    folder = os.path.join(ROOT, "build-peers", "venv")
    python = os.path.join(folder, "bin", "python")
    if has_peer(python):
        return python
    say(f"building llama-cpp-python {VERSION} into build-peers/, for this machine; that takes a while")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--no-binary", "llama-cpp-python", f"llama-cpp-python=={VERSION}"],
                   check=True, stdout=sys.stderr,
                   env=dict(os.environ, CMAKE_ARGS="-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release", FORCE_CMAKE="1"))
    if not has_peer(python):
        sys.exit("check_peers: llama-cpp-python was built, but cannot be imported")
    return python


def has_peer(python):
    done = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True) if os.path.exists(python) else None
    return done is not None and done.returncode == 0


def counts(text):
    values = [int(word) for word in text.split(",")]
    if any(value < 0 for value in values):
        raise ValueError(text)
    return values


def names(known):
    def parse(text):
        words = [word.strip() for word in text.split(",")]
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}; found {word!r}")
        return words
    return parse


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--carat", default=os.path.join(ROOT, "build", "carat"), help="the program (default: build/carat)")
    parser.add_argument("--python", default=os.environ.get("CARAT_PEER_PYTHON"), help="a Python with llama_cpp")
    parser.add_argument("--only", type=names(GROUPS), default=list(GROUPS), help="some of " + ",".join(GROUPS))
    parser.add_argument("--runs", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each (default: one per core)")
    parser.add_argument("--tokens", type=int, default=16, help="that a decode makes (default: 16)")
    parser.add_argument("--depths", type=counts, default=[0, 4096, 16384, 65536])
    parser.add_argument("--lengths", type=counts, default=[512, 2048], help="of prompts")
    parser.add_argument("--rows", type=counts, default=[2, 4, 8, 16], help="of batches")
    parser.add_argument("--weights", dest="variants", choices=list(VARIANTS), action="append",
                        help="how llama.cpp keeps its weights; may be repeated (default: all, of which the fastest goes on)")
    parser.add_argument("--every-variant", action="store_true", help="measure all of these in every turn")
    parser.add_argument("--no-limits", action="store_true", help="do not measure carat's share of the machine's limits")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that one process may take")
    parser.add_argument("--json", metavar="FILE", help="write every value")
    options = parser.parse_args()
    options.variants = options.variants or list(VARIANTS)
    if options.runs < 1 or options.tokens < 1 or options.threads < 1 or min(options.lengths + options.rows) < 1:
        parser.error("expected numbers above 0")
    return options


def main():
    options = parse_options()
    if not os.access(options.carat, os.X_OK):
        sys.exit(f"check_peers: {options.carat}: no such program; build it with make, or name it with --carat")
    models = options.models
    if not models:
        say(NO_MODEL)
        models = [os.path.join(ROOT, "demo", "carat-demo.gguf")]
    for model in models:
        if not os.path.isfile(model):
            sys.exit(f"check_peers: {model}: no such file")
    if options.python and not has_peer(options.python):
        sys.exit(f"check_peers: {options.python}: cannot import llama_cpp")
    options.python = options.python or build_peer()
    found, before = [], os.getloadavg()[0]
    started = time.strftime("%Y-%m-%d %H:%M")
    try:
        for model in models:
            say(os.path.basename(model))
            found.append(Comparison(options, os.path.abspath(model)))
            found[-1].measure()
    except KeyboardInterrupt:
        say("interrupted: what there is")
    show(options, found, before, started)
    return 1 if any(c.problems for c in found) else 0


def show(options, found, load, started):
    peer = next((c.info["peer"] for c in found if "peer" in c.info), "")
    print(f"{machine()}; {options.threads} threads, {options.runs} turns, {started}, load before {load:.1f}")
    print(f"llama.cpp: {peer}\n")
    for comparison in found:
        print("\n".join(comparison.table()) + "\n")
    if load > 0.5:
        print("The machine was busy before this began: take the figures again when it is at rest.")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump({"machine": machine(), "threads": options.threads, "runs": options.runs, "started": started,
                       "load_before": load, "peer": peer,
                       "models": [{"model": os.path.basename(c.model), "carat": c.info.get("carat"), "tried": c.info.get("tried"),
                                   "figures": [f.as_json() for f in c.figures.values()], "problems": c.problems}
                                  for c in found]}, f, indent=1)


if __name__ == "__main__":
    sys.exit(main())
