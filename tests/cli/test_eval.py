# SPDX-License-Identifier: Apache-2.0
"""carat eval on texts: figures against the reference's recorded logits and against a second reader of logit files,
windows by the stated rule, and what is refused."""
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
import unittest
import xml.dom.minidom

from common import CARAT, DATA, DEMO, CommandTest, carat

QUANT = os.path.join(DATA, "fixtures", "quant")
TEXT = os.path.join(DATA, "fixtures", "unified-text")
VOCABULARY = 384  # of both
TYPES = ["Q8_0", "Q6_K", "Q4_0", "Q4_K"]
# As the goldens were made: nothing is rounded on the way.
EXACT = ["--float", "--kv-type", "f32", "--quiet", "--json"]
# The goldens' tolerance of a logit; a logarithm of a probability is off by at most twice that.
LOGIT = 1e-3
MASK = (1 << 64) - 1


def siphash(data):
    """SipHash-2-4 with 128 bits under a key of zeros, from its description."""
    v = [0x736F6D6570736575, 0x646F72616E646F6D ^ 0xEE, 0x6C7967656E657261, 0x7465646279746573]

    def turn(x, bits):
        return (x << bits | x >> (64 - bits)) & MASK

    def mix(rounds):
        for _ in range(rounds):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[i:i + 8], "little") for i in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 255) << 56)
    for word in words:
        v[3] ^= word
        mix(2)
        v[0] ^= word
    v[2] ^= 0xEE
    mix(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    mix(4)
    return struct.pack("<QQ", first, v[0] ^ v[1] ^ v[2] ^ v[3])


class LogitFile:
    """A file of logits, by its description in docs/eval.md."""
    HEAD = 304

    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        self.head = data[:self.HEAD]
        assert self.head[:8] == b"CARATLGT" and siphash(self.head[:-16]) == self.head[-16:]
        version, self.n_vocab, self.n_rows = struct.unpack("<IIQ", self.head[8:24])
        assert version == 1
        size = 16 + 2 * self.n_vocab + 8
        assert len(data) == self.HEAD + self.n_rows * size
        self.rows = []
        for i in range(self.n_rows):
            row = data[self.HEAD + i * size:self.HEAD + (i + 1) * size]
            assert siphash(struct.pack("<Q", self.n_rows - i) + row[:-8])[:8] == row[-8:]
            high, step, logprob, top = struct.unpack("<fffI", row[:16])
            self.rows.append((high, step, logprob, top, struct.unpack(f"<{self.n_vocab}H", row[16:-8])))

    def distribution(self, i):
        """Logarithms of the probabilities, brought to a sum of one."""
        high, step, _, _, codes = self.rows[i]
        values = [high - step * code for code in codes]
        total = math.log(math.fsum(math.exp(v) for v in values))
        return [v - total for v in values]


def write_logits(path, head, rows):
    """rows of (high, step, logprob, top, codes), under the head of another file."""
    with open(path, "wb") as f:
        f.write(head)
        for i, (high, step, logprob, top, codes) in enumerate(rows):
            row = struct.pack("<fffI", high, step, logprob, top) + struct.pack(f"<{len(codes)}H", *codes)
            f.write(row + siphash(struct.pack("<Q", len(rows) - i) + row)[:8])


class Golden:
    def __init__(self, folder):
        with open(os.path.join(folder, "golden.safetensors"), "rb") as f:
            data = f.read()
        n = struct.unpack("<Q", data[:8])[0]
        self.tensors, self.data = json.loads(data[8:8 + n]), data[8 + n:]

    def read(self, name):
        t = self.tensors[name]
        raw = self.data[t["data_offsets"][0]:t["data_offsets"][1]]
        return struct.unpack(f"<{len(raw) // 4}" + ("i" if t["dtype"] == "I32" else "f"), raw)

    def distributions(self, name):
        values = self.read(name)
        rows = [values[i:i + VOCABULARY] for i in range(0, len(values), VOCABULARY)]
        out = []
        for row in rows:
            total = math.log(math.fsum(math.exp(v) for v in row))
            out.append([v - total for v in row])
        return out


def divergence(p, q):
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q))


def likeliest(row):
    return max(range(len(row)), key=row.__getitem__)


def mean(values):
    return math.fsum(values) / len(values)


def error(values):
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / (len(values) - 1) / len(values))


def percentile(values, share):
    """Between neighbours in proportion, as numpy does by default."""
    values = sorted(values)
    at = share * (len(values) - 1)
    i = min(int(at), len(values) - 2)
    return values[i] + (at - i) * (values[i + 1] - values[i])


class EvalTest(CommandTest):
    def run_eval(self, *words, **more):
        done = carat("eval", *words, **more)
        self.assertEqual(done.code, 0, done.err)
        return done

    def figures(self, *words, **more):
        return json.loads(self.run_eval(*words, "--json", "--quiet", **more).out)

    def lines(self, *rows, name="lines.jsonl"):
        return self.path(name, "".join(json.dumps(row) + "\n" for row in rows))


class Figures(EvalTest):
    """Against logits of the reference implementation, which the goldens hold."""

    def setUp(self):
        super().setUp()
        self.golden = Golden(QUANT)
        self.ids = self.golden.read("in.input_ids")
        self.tokens = self.lines({"tokens": self.ids})

    def model(self, kind):
        return os.path.join(QUANT, f"model-{kind}.gguf")

    def test_against_the_reference_implementation(self):
        p = self.golden.distributions("out.Q8_0.logits")
        answer = json.loads(self.run_eval("--against", self.model("Q8_0"), *map(self.model, TYPES), self.tokens,
                                          *EXACT).out)
        n = len(self.ids) - 1
        self.assertEqual(answer["tokens"], n)
        for kind, found in zip(TYPES, answer["models"]):
            with self.subTest(type=kind):
                q = self.golden.distributions(f"out.{kind}.logits")
                losses = [-q[i][self.ids[i + 1]] for i in range(n)]
                changes = [q[i][self.ids[i + 1]] - p[i][self.ids[i + 1]] for i in range(n)]
                kl = [divergence(p[i], q[i]) for i in range(n)]
                self.assertEqual(found["model"], f"model-{kind}")
                self.assertEqual(found["bytes"], os.path.getsize(self.model(kind)))
                self.assertAlmostEqual(found["loss"]["mean"], mean(losses), delta=2 * LOGIT)
                self.assertAlmostEqual(found["loss"]["error"], error(losses), delta=2 * LOGIT)
                self.assertAlmostEqual(math.log(found["perplexity"]["mean"]), mean(losses), delta=2 * LOGIT)
                self.assertAlmostEqual(found["perplexity"]["error"] / found["perplexity"]["mean"], error(losses),
                                       delta=2 * LOGIT)
                self.assertAlmostEqual(math.log(found["perplexity_ratio"]["mean"]), -mean(changes), delta=2 * LOGIT)
                self.assertAlmostEqual(found["ln_p_change"]["mean"], mean(changes), delta=2 * LOGIT)
                self.assertAlmostEqual(found["ln_p_change"]["error"], error(changes) if kind != "Q8_0" else 0,
                                       delta=2 * LOGIT)
                self.assertAlmostEqual(found["kl"]["mean"], mean(kl), delta=LOGIT)
                self.assertAlmostEqual(found["kl"]["error"], error(kl), delta=LOGIT)
                self.assertAlmostEqual(found["kl_median"], percentile(kl, 0.5), delta=LOGIT)
                self.assertAlmostEqual(found["kl_90"], percentile(kl, 0.9), delta=2 * LOGIT)
                self.assertAlmostEqual(found["kl_99"], percentile(kl, 0.99), delta=2 * LOGIT)
                self.assertAlmostEqual(found["kl_99_9"], percentile(kl, 0.999), delta=2 * LOGIT)
                self.assertAlmostEqual(found["kl_max"], max(kl), delta=2 * LOGIT)
                same = [likeliest(p[i]) == likeliest(q[i]) for i in range(n)]
                self.assertAlmostEqual(found["same_top"]["mean"], mean(same), places=12)
                self.assertAlmostEqual(found["same_top"]["error"], error(same), places=12)
        self.assertAlmostEqual(answer["reference"]["loss"]["mean"],
                               -mean([p[i][self.ids[i + 1]] for i in range(n)]), delta=2 * LOGIT)

    def test_by_position_beyond_the_sliding_window(self):
        golden = Golden(TEXT)
        ids, q = golden.read("in.input_ids"), golden.distributions("out.logits")
        answer = json.loads(self.run_eval(os.path.join(TEXT, "model"), self.lines({"tokens": ids}), *EXACT).out)
        losses = {i + 1: -q[i][ids[i + 1]] for i in range(len(ids) - 1)}
        found = answer["models"][0]
        self.assertAlmostEqual(found["loss"]["mean"], mean(list(losses.values())), delta=2 * LOGIT)
        expected = [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)]
        self.assertEqual([(p["first"], p["last"]) for p in found["positions"]], expected)
        for part in found["positions"]:
            of = [losses[i] for i in range(part["first"], part["last"] + 1) if i in losses]
            self.assertEqual(part["tokens"], len(of))
            self.assertAlmostEqual(part["loss"]["mean"], mean(of), delta=2 * LOGIT)

    def test_against_a_second_reader_of_the_files(self):
        paths = {}
        for kind in ("Q8_0", "Q4_0"):
            paths[kind] = self.path(kind + ".logits")
            self.run_eval(self.model(kind), self.tokens, "--save-logits", paths[kind], *EXACT)
        p, q = LogitFile(paths["Q8_0"]), LogitFile(paths["Q4_0"])
        kl = [divergence(p.distribution(i), q.distribution(i)) for i in range(p.n_rows)]
        changes = [q.rows[i][2] - p.rows[i][2] for i in range(p.n_rows)]
        found = json.loads(self.run_eval("--against", paths["Q8_0"], self.model("Q4_0"), self.tokens, *EXACT,
                                         "--worst", "12").out)
        m = found["models"][0]
        for name, value in (("kl", mean(kl)), ("ln_p_change", mean(changes)),
                            ("loss", -mean([row[2] for row in q.rows]))):
            self.assertAlmostEqual(m[name]["mean"], value, delta=1e-9 * max(1, abs(value)))
        for name, value in (("kl_median", percentile(kl, 0.5)), ("kl_99", percentile(kl, 0.99)), ("kl_max", max(kl))):
            self.assertAlmostEqual(m[name], value, places=9)
        self.assertEqual([w["position"] for w in m["worst"]],
                         [i + 1 for i in sorted(range(len(kl)), key=lambda i: -kl[i])])
        self.assertEqual([row[3] for row in p.rows], [likeliest(p.distribution(i)) for i in range(p.n_rows)])
        self.assertEqual(found["reference"]["model"], "model-Q8_0")
        self.assertEqual(found["reference"]["bytes"], os.path.getsize(self.model("Q8_0")))

    def test_against_files_written_by_hand(self):
        own = self.path("own.logits")
        self.run_eval(self.model("Q8_0"), self.tokens, "--save-logits", own, *EXACT)
        head, n = LogitFile(own).head, len(self.ids) - 1
        q = self.golden.distributions("out.Q8_0.logits")
        even = -math.log(VOCABULARY)
        write_logits(self.path("even.logits"), head, [(even, 0.0, even, 0, [0] * VOCABULARY)] * n)
        m = self.figures("--against", self.path("even.logits"), self.model("Q8_0"), self.tokens, *EXACT)
        self.assertAlmostEqual(m["reference"]["perplexity"]["mean"], VOCABULARY, delta=1e-3)
        self.assertAlmostEqual(m["reference"]["perplexity"]["error"], 0, places=9)
        expected = [even - mean(q[i]) for i in range(n)]
        self.assertAlmostEqual(m["models"][0]["kl"]["mean"], mean(expected), delta=2 * LOGIT)
        # One that is sure of the token that came: the divergence is the loss.
        sure = [(0.0, 0.01, 0.0, t, [0 if j == t else 65535 for j in range(VOCABULARY)]) for t in self.ids[1:]]
        write_logits(self.path("sure.logits"), head, sure)
        m = self.figures("--against", self.path("sure.logits"), self.model("Q8_0"), self.tokens, *EXACT)
        self.assertAlmostEqual(m["models"][0]["kl"]["mean"], m["models"][0]["loss"]["mean"], delta=1e-3)
        self.assertEqual(m["reference"]["perplexity"]["mean"], 1)
        agrees = [likeliest(q[i]) == self.ids[i + 1] for i in range(n)]
        self.assertAlmostEqual(m["models"][0]["same_top"]["mean"], mean(agrees), places=12)


SENTENCES = ["What is the capital of France? The capital of France is Paris. ", "The opposite of hot is cold. ",
             "Seven plus five is twelve, and two plus two is four. ", "I can see a red circle and a blue square. "]


class Rules(EvalTest):
    def setUp(self):
        super().setUp()
        self.text = self.path("story.txt", "".join(SENTENCES[i % 4] + str(i) + "\n" for i in range(60)))

    def tokens_of(self, text):
        return json.loads(carat("tokenize", text, "--json").out)["ids"]

    def test_a_model_does_not_differ_from_itself(self):
        answer = self.figures("--against", DEMO, DEMO, self.text, "--worst", "5")
        m = answer["models"][0]
        for name in ("kl_median", "kl_90", "kl_99", "kl_99_9", "kl_max"):
            self.assertEqual(m[name], 0)
        self.assertEqual(m["kl"], {"mean": 0, "error": 0})
        self.assertEqual(m["ln_p_change"], {"mean": 0, "error": 0})
        self.assertEqual(m["same_top"], {"mean": 1, "error": 0})
        self.assertEqual(m["perplexity_ratio"], {"mean": 1, "error": 0})
        self.assertEqual(m["worst"], [])
        self.assertEqual(m["loss"], answer["reference"]["loss"])

    def test_threads_and_chunks_change_nothing(self):
        seen = set()
        for i, words in enumerate((["--threads", "1"], ["--threads", "2"], ["--threads", "3", "--chunk", "7"],
                                   ["--chunk", "64"])):
            logits = self.path(f"{i}.logits")
            self.run_eval(DEMO, self.text, "--context", "100", "--stride", "60", "--quiet", "--save-logits", logits, *words)
            with open(logits, "rb") as f:
                recorded = f.read()
            out = self.run_eval("--against", self.path("0.logits"), DEMO, self.text, "--context", "100", "--stride", "60",
                                "--quiet", "--json", "--worst", "3", *words).out
            seen.add((recorded, out))
        self.assertEqual(len(seen), 1)

    def test_windows_are_cut_as_stated(self):
        ids = self.tokens_of(SENTENCES[0])[:10]
        self.assertEqual(len(ids), 10)
        whole = self.lines({"tokens": ids}, name="whole.jsonl")
        # Windows of <bos> and four tokens, side by side.
        parts = self.lines(*({"tokens": ids[i:i + 4]} for i in (0, 4, 8)), name="parts.jsonl")
        a = self.figures(DEMO, whole, "--context", "5")
        b = self.figures(DEMO, parts)
        self.assertEqual((a["tokens"], a["windows"]), (10, 3))
        self.assertEqual(a["models"][0]["loss"], b["models"][0]["loss"])
        # One every two tokens: after the first one, the first two of each are context only.
        parts = self.lines(*({"tokens": ids[i:i + 4]} for i in (2, 4, 6)), name="parts.jsonl")
        first = self.figures(DEMO, self.lines({"tokens": ids[:4]}))["models"][0]["loss"]["mean"]
        rest = self.figures(DEMO, parts, "--skip", "2")
        self.assertEqual(rest["tokens"], 6)
        a = self.figures(DEMO, whole, "--context", "5", "--stride", "2")
        self.assertEqual((a["tokens"], a["windows"]), (10, 4))
        self.assertAlmostEqual(a["models"][0]["loss"]["mean"], (4 * first + 6 * rest["models"][0]["loss"]["mean"]) / 10,
                               places=6)
        # --skip leaves the first of each window out: 4 - 3, 4 - 3, and nothing of the last two.
        a = self.figures(DEMO, whole, "--context", "5", "--skip", "3")
        self.assertEqual((a["tokens"], a["windows"]), (2, 2))
        self.assertEqual([p["first"] for p in a["models"][0]["positions"]], [4])

    def test_tokens_limits_each_domain(self):
        other = self.lines({"text": SENTENCES[1] * 9, "domain": "cold"}, {"text": SENTENCES[2] * 9, "domain": "sums"})
        m = self.figures(DEMO, self.text, other, "--tokens", "37", "--context", "16")["models"][0]
        self.assertEqual([(d["domain"], d["tokens"]) for d in m["domains"]], [("story.txt", 37), ("cold", 37), ("sums", 37)])

    def test_domains_and_bytes(self):
        sizes = {"cold": 2 * len(SENTENCES[1]), "sums": len(SENTENCES[2]), "lines.jsonl": len(SENTENCES[3])}
        lines = self.lines({"text": SENTENCES[1], "domain": "cold"}, {"text": SENTENCES[2], "domain": "sums"},
                           {"text": SENTENCES[3]}, {"text": SENTENCES[1], "domain": "cold"})
        m = self.figures(DEMO, lines)["models"][0]
        self.assertEqual({d["domain"]: d["bytes_of_text"] for d in m["domains"]}, sizes)
        self.assertEqual(m["bytes_of_text"], sum(sizes.values()))
        total = sum(d["loss"]["mean"] * d["tokens"] for d in m["domains"])
        self.assertAlmostEqual(m["loss"]["mean"], total / m["tokens"], places=9)
        self.assertAlmostEqual(m["bits_per_byte"], total / math.log(2) / sum(sizes.values()), places=9)
        self.assertAlmostEqual(m["perplexity"]["mean"], math.exp(total / m["tokens"]), places=6)

    def test_prompts_are_given_and_not_scored(self):
        a, b = SENTENCES[0][:27], SENTENCES[0][27:]
        n_a, n_b = len(self.tokens_of(a)), len(self.tokens_of(b))
        line = {"prompt": a, "text": b}
        m = self.figures(DEMO, self.lines(line))
        self.assertEqual(m["tokens"], n_b)
        ids = self.tokens_of(a) + self.tokens_of(b)
        self.assertEqual(m["models"][0]["loss"],
                         self.figures(DEMO, self.lines({"tokens": ids}), "--skip", str(n_a))["models"][0]["loss"])
        # A prompt longer than a window: the first one that reaches beyond it has the rest.
        m = self.figures(DEMO, self.lines(line), "--context", str(n_a))
        self.assertEqual(m["tokens"], n_b)
        self.assert_fails(carat("eval", DEMO, self.lines({"prompt": a, "text": ""}), "--quiet"), 1, "no token")

    def test_special_strings(self):
        chat = self.path("chat.txt", "<bos><|turn>user\nHello<turn|>\n")
        plain, special = self.figures(DEMO, chat), self.figures(DEMO, chat, "--special")
        ids = json.loads(carat("tokenize", "--special", "<bos><|turn>user\nHello<turn|>\n", "--json").out)["ids"]
        self.assertEqual(special["tokens"], len(ids) - 1)  # a <bos> of the text's own is not another one
        self.assertGreater(plain["tokens"], special["tokens"])

    def test_words_are_sorted_into_models_and_texts(self):
        self.assertEqual(self.figures(self.text)["models"][0]["model"], "carat-demo")
        a = self.figures(DEMO, "-", stdin=SENTENCES[0])
        self.assertEqual(a["models"][0]["domains"][0]["domain"], "standard input")
        two = json.loads(self.run_eval("--json", "--quiet", DEMO, DEMO, "--", self.text).out)
        self.assertEqual(len(two["models"]), 2)
        self.assertEqual(two["models"][0], two["models"][1])

    def test_record_is_the_reference_with_another_name(self):
        """Recorded first, or run in the same command: the same answer; nothing temporary is left."""
        logits, folder = self.path("story.logits"), self.path("temporary")
        os.mkdir(folder)
        shrunk = self.path("demo-Q4_0.gguf")
        self.assertEqual(carat("quantize", DEMO, shrunk, "Q4_0", "--quiet").code, 0)
        direct = self.figures("--against", DEMO, shrunk, self.text, env={"TMPDIR": folder})
        self.assertEqual(os.listdir(folder), [])
        both = self.figures("--against", DEMO, shrunk, self.text, "--save-logits", logits, env={"TMPDIR": folder})
        later = self.figures("--against", logits, shrunk, self.text)
        self.assertEqual(direct, both)
        self.assertEqual(direct, later)
        m = direct["models"][0]
        self.assertGreater(m["kl"]["mean"], 0)
        self.assertLess(m["same_top"]["mean"], 1)

    def test_worst_tokens_and_drawing(self):
        shrunk, drawing = self.path("demo-Q2_K.gguf"), self.path("quality.svg")
        self.assertEqual(carat("quantize", DEMO, shrunk, "Q2_K", "--quiet").code, 0)
        done = self.run_eval("--against", DEMO, DEMO, shrunk, self.text, "--worst", "4", "--svg", drawing, "--quiet")
        self.assertIn("Worst tokens of demo-Q2_K:", done.out)
        self.assertIn("carat-demo: no token differs.", done.out)
        self.assertIn("largest", done.out)
        m = self.figures("--against", DEMO, shrunk, self.text, "--worst", "4")["models"][0]
        kl = [w["kl"] for w in m["worst"]]
        self.assertEqual(kl, sorted(kl, reverse=True))
        self.assertEqual(kl[0], m["kl_max"])
        with open(self.text, encoding="utf-8") as f:
            text = f.read()
        for w in m["worst"]:
            self.assertIn(w["context"] + w["token"], text)
        svg = xml.dom.minidom.parse(drawing)
        # The reference does not differ from itself, which no logarithm shows; perplexity both have.
        self.assertEqual(len(svg.getElementsByTagName("circle")), 3)

    def test_earlier_answers_in_one_drawing(self):
        drawing, files = self.path("quality.svg"), []
        for kind in ("Q4_0", "Q2_K"):
            shrunk = self.path(f"demo-{kind}.gguf")
            self.assertEqual(carat("quantize", DEMO, shrunk, kind, "--quiet").code, 0)
            files.append(self.path(kind + ".json", self.run_eval("--against", DEMO, shrunk, self.text, "--json").out))
        at_once = self.path("at-once.svg")
        self.run_eval("--against", DEMO, self.path("demo-Q4_0.gguf"), self.path("demo-Q2_K.gguf"), self.text, "--svg", at_once)
        self.assertEqual(self.run_eval(*files, "--svg", drawing).out, "")
        with open(drawing, "rb") as a, open(at_once, "rb") as b:
            self.assertEqual(a.read(), b.read())
        other = self.path("other.json", self.run_eval("--against", DEMO, DEMO, self.text, "--json", "--tokens", "9").out)
        self.assert_fails(carat("eval", files[0], other, "--svg", drawing), 1, "other.json", "other texts")
        for i, text in enumerate(("{}", "[]", '{"tokens":1,"context":2}', '{"tokens":1,"context":2,"models":[{"model":"x"}]}')):
            self.assert_fails(carat("eval", self.path(f"{i}.json", text), "--svg", drawing), 1, f"{i}.json")
        self.assert_fails(carat("eval", self.path("broken.json", "{"), "--svg", drawing), 1, "broken.json")

    def test_interrupted(self):
        folder = self.path("temporary")
        os.mkdir(folder)
        long = self.path("long.txt", "".join(SENTENCES) * 4000)
        p = subprocess.Popen([CARAT, "eval", "--against", DEMO, DEMO, long, "--threads", "1"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=dict(os.environ, TMPDIR=folder))
        try:
            end = time.monotonic() + 60
            while not os.listdir(folder) and time.monotonic() < end:
                time.sleep(0.01)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=60)
        finally:
            p.kill()
            p.wait()
        self.assertEqual(p.returncode, 130, err)
        self.assertEqual(out, b"")
        self.assertEqual(os.listdir(folder), [])


class Table(EvalTest):
    """tools/quality_table.py, which makes the published table."""

    def make(self, *words):
        tool = os.path.join(DATA, "..", "..", "tools", "quality_table.py")
        return subprocess.run([sys.executable, tool, CARAT, "--model", DEMO, "--work", self.path("work"), "--types", "Q4_0,Q8_0",
                               "--tokens", "60", *words], capture_output=True, text=True, timeout=120)

    def test_table_goes_on_where_it_was_stopped(self):
        text, drawing = self.path("story.txt", "".join(SENTENCES) * 3), self.path("all.svg")
        first = self.make("--text", text, "--svg", drawing)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual([line.split(" | ")[0] for line in first.stdout.splitlines() if line.startswith("| Q")],
                         ["| Q8_0", "| Q4_0"] * 2)
        self.assertEqual([n for n in os.listdir(self.path("work")) if n.endswith(".gguf")], [])
        xml.dom.minidom.parse(drawing)
        os.remove(os.path.join(self.path("work"), "Q4_0.json"))
        second = self.make("--text", text)
        self.assertEqual(second.stdout, first.stdout)
        done = [line.split()[2] for line in second.stderr.splitlines() if line.startswith("# ")]
        self.assertEqual(done, ["quantize", "eval"])
        other = self.make("--text", self.path("other.txt", "Hello."))
        self.assertEqual((other.returncode, other.stdout), (1, ""))
        self.assertIn("other texts", other.stderr)


class Refused(EvalTest):
    def setUp(self):
        super().setUp()
        self.text = self.path("story.txt", "".join(SENTENCES))

    def refuse(self, code, words, *expected):
        self.assert_fails(carat("eval", "--quiet", *words), code, *expected)

    def test_usage(self):
        self.refuse(2, [], "no file to evaluate")
        self.refuse(2, [DEMO], "no file to evaluate")
        self.refuse(2, [DEMO, self.text, "--context", "1"], "--context")
        self.refuse(2, [DEMO, self.text, "--context", "8", "--stride", "8"], "--stride")
        self.refuse(2, [DEMO, self.text, "--context", "8", "--skip", "7"], "--skip")
        self.refuse(1, [DEMO, self.text, "--context", "1000000"], "context: expected at most")
        self.refuse(2, [DEMO, DEMO, self.text, "--save-logits", self.path("x")], "records one model")

    def test_texts(self):
        self.refuse(1, [DEMO, self.path("empty.txt", "")], "empty.txt", "no token to score")
        self.refuse(1, [DEMO, self.path("not-there.gguf"), "--", self.text], "not-there.gguf")
        self.refuse(1, [DEMO, "--", self.path("not-there.txt")], "not-there.txt")
        self.refuse(1, [DEMO, self.path("not-there.jsonl")], "not-there.jsonl", "No such file")
        self.refuse(1, [DEMO, self.path("a.jsonl", '{"text":"fine"}\n{"text":7}\n')], "a.jsonl: line 2", "text")
        self.refuse(1, [DEMO, self.path("b.jsonl", '{"text":"fine"}\n{"text"\n')], "b.jsonl: line 2")
        self.refuse(1, [DEMO, self.path("c.jsonl", '{"tokens":[1,2,99999999]}\n')], "c.jsonl: line 1", "index 2")
        self.refuse(1, [DEMO, self.path("d.jsonl", '{"tokens":[1,-2]}\n')], "d.jsonl: line 1", "index 1")

    def test_other_vocabulary(self):
        other = os.path.join(QUANT, "model-Q8_0.gguf")
        self.refuse(1, ["--against", DEMO, other, self.text], "vocabularies differ", "3072", "384")
        self.refuse(1, [DEMO, other, self.text], "vocabularies differ")

    def test_records_of_something_else(self):
        logits = self.path("story.logits")
        self.run_eval(DEMO, self.text, "--save-logits", logits, "--quiet")
        other = self.path("other.txt", "".join(reversed(SENTENCES)))
        self.refuse(1, ["--against", logits, DEMO, other], "recorded over other texts")
        self.refuse(1, ["--against", logits, DEMO, self.text, "--context", "16"], "recorded over other texts")
        self.refuse(1, ["--against", logits, DEMO, self.text, "--tokens", "9"], "recorded over other texts")
        self.refuse(1, ["--against", logits, DEMO, self.text, "--save-logits", self.path("x")], "nothing to record")
        fixture = os.path.join(QUANT, "model-Q8_0.gguf")
        self.refuse(1, ["--against", logits, fixture, self.text], "vocabulary differs")
        with open(logits, "rb") as f:
            data = f.read()
        self.refuse(1, ["--against", self.path("short.logits", data[:-1]), DEMO, self.text], "expected", "bytes")
        at = 304 + 5000
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        self.refuse(1, ["--against", self.path("damaged.logits", damaged), DEMO, self.text], "row 0 is damaged")
        head = data[:30] + bytes([data[30] ^ 1]) + data[31:]
        self.refuse(1, ["--against", self.path("head.logits", head), DEMO, self.text], "damaged")

    def test_record_that_cannot_be_written(self):
        done = carat("eval", DEMO, self.text, "--save-logits", self.path("no/such/folder.logits"), "--quiet")
        self.assertEqual((done.code, done.out), (1, ""))
        self.assertIn("folder.logits", done.err)

    def test_full_standard_output(self):
        if os.path.exists("/dev/full"):
            with open("/dev/full", "wb") as full:
                self.assertEqual(carat("eval", DEMO, self.text, "--quiet", stdout=full).code, 1)


if __name__ == "__main__":
    unittest.main()
