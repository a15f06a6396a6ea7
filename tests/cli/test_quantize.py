# SPDX-License-Identifier: Apache-2.0
"""carat quantize and convert: every type, mixes, budgets, importance, restarts, and back again."""
import glob
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import unittest

from common import CARAT, DATA, DEMO, carat
from model_files import BLOCKS, QUESTION, Gguf, JobTest, content, safetensors

MMPROJ = os.path.join(os.path.dirname(DEMO), "mmproj-carat-demo.gguf")
CHECKPOINT = os.path.join(DATA, "fixtures", "unified-text", "model")
QUANT = os.path.join(DATA, "fixtures", "quant")
PLAIN = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS"]


class Types(JobTest):
    def test_every_type_of_the_demo_model(self):
        for name in PLAIN:
            with self.subTest(type=name):
                out = self.path(name + ".gguf")
                report = json.loads(self.make("quantize", DEMO, out, name, "--json").out)
                made = Gguf(out)
                self.assertEqual(report["file_size"], os.path.getsize(out))
                self.assertEqual(made.types()["blk.1.ffn_up.weight"], name)
                self.assertEqual(made.types()["blk.1.ffn_norm.weight"], "F32")
                self.assertEqual(made.keys["tokenizer.ggml.tokens"], Gguf(DEMO).keys["tokenizer.ggml.tokens"])
                self.assertFalse(glob.glob(out + ".*"))
                if name != "Q2_K":  # 2.6 bits are too few for so small a model
                    self.assertIn("Paris", self.answer(out))
                else:
                    self.assertGreater(len(self.answer(out)), 0)
                os.remove(out)

    def test_the_reference_made_again_of_its_values(self):
        """Of values that were Q8_0 there is one way back; and the metadata of a checkpoint is what a GGUF file had."""
        reference = os.path.join(QUANT, "model-Q8_0.gguf")
        folder, out = self.path("checkpoint"), self.path("q8.gguf")
        self.make("convert", reference, folder, "--type", "f32", "--quiet")
        self.make("quantize", folder, out, "Q8_0", "--pure", "--quiet")
        want, made = Gguf(reference), Gguf(out)
        self.assertEqual(made.types(), want.types())
        for name, (_, dims, data) in want.tensors.items():
            self.assertEqual(made.tensors[name][1], dims, name)
            self.assertEqual(made.tensors[name][2], data, name)
        for key, value in want.keys.items():
            if key.startswith("gemma4.") or (key.startswith("tokenizer.") and not key.endswith("token_type")):
                self.assertEqual(made.keys.get(key), value, key)
        self.assertEqual(made.keys["general.file_type"], 7)
        self.assertEqual(made.keys["general.architecture"], "gemma4")

    def test_mixes_give_more_where_it_matters(self):
        out = self.path("made.gguf")
        self.make("quantize", DEMO, out, "Q4_K_M", "--quiet")
        types = Gguf(out).types()
        self.assertEqual(types["token_embd.weight"], "Q6_K")
        self.assertEqual([types[f"blk.{i}.ffn_down.weight"] for i in range(4)], ["Q4_K", "Q4_K", "Q6_K", "Q6_K"])
        self.assertEqual([types[f"blk.{i}.attn_v.weight"] for i in range(3)], ["Q4_K", "Q4_K", "Q6_K"])
        self.make("quantize", DEMO, out, "q4_k_s", "--quiet", "--force")
        self.assertEqual(Gguf(out).types()["blk.0.attn_v.weight"], "Q5_K")
        self.make("quantize", DEMO, out, "Q4_K", "--pure", "--quiet", "--force", "--tensor", "attn_v=Q8_0", "--tensor", "blk.0.=BF16")
        types = Gguf(out).types()
        self.assertEqual([types["token_embd.weight"], types["blk.0.attn_v.weight"], types["blk.0.attn_q.weight"],
                          types["blk.1.attn_q.weight"]], ["Q4_K", "Q8_0", "BF16", "Q4_K"])

    def test_rows_that_do_not_fit(self):
        """The fixture's rows are 48 and 128 long."""
        out = self.path("made.gguf")
        done = self.make("quantize", CHECKPOINT, out, "Q4_K", "--projector-place", "none")
        types = Gguf(out).types()
        self.assertEqual(types["blk.0.attn_output.weight"], "Q5_0")
        self.assertEqual(types["blk.0.attn_q.weight"], "F16")
        self.assertIn("do not fit", done.out)

    def test_a_budget_is_filled_and_kept(self):
        out = self.path("made.gguf")
        source = self.path("f16.gguf")
        self.make("quantize", DEMO, source, "F16", "--quiet")
        refused = carat("quantize", source, self.path("x.gguf"), "auto:100KB")
        self.assert_fails(refused, 1, "smallest mix", "at least")
        least = int(re.search(r"takes (\d+) bytes", refused.err).group(1))
        self.assert_fails(carat("quantize", source, self.path("x.gguf"), f"auto:{least - 1}"), 1, "smallest mix")
        for size in [least, least + 1, 1777777, 2000001, 2600000, 3333333]:
            self.make("quantize", source, out, f"auto:{size}", "--quiet", "--force")
            self.assertLessEqual(os.path.getsize(out), size)
            self.assertGreater(os.path.getsize(out), size * 0.96)
        self.assertIn("Paris", self.answer(out))
        self.make("quantize", source, out, "auto:2285312", "--quiet", "--force")
        types = Gguf(out).types()
        bits = {kind: BLOCKS[kind][1] / BLOCKS[kind][0] for kind in types.values()}
        # An error in what makes the logits reaches them undamped.
        others = [bits[kind] for name, kind in types.items() if kind != "F32" and name != "token_embd.weight"]
        self.assertGreater(bits[types["token_embd.weight"]], sum(others) / len(others))
        for text, size in [("1.9MB", 1900000), ("2.5MiB", 2621440), ("1500.5KB", 1500500), ("1TB", 1e12)]:
            plan = json.loads(self.make("quantize", source, self.path("x.gguf"), f"auto:{text}", "--dry-run", "--json").out)
            self.assertLessEqual(plan["file_size"], size)
            self.assertGreater(plan["file_size"], min(size, 3500000) * 0.96)
        for text in ["much", "", "-5", "0", "99999999999999999999GB"]:
            self.assert_fails(carat("quantize", source, self.path("x.gguf"), f"auto:{text}"), 1, "auto:7.5GB")

    def test_what_is_refused(self):
        out = self.path("made.gguf", "mine")
        self.assert_fails(carat("quantize", DEMO, out, "Q8_0"), 1, "is there already")
        self.assertEqual(content(out), b"mine")
        self.assert_fails(carat("quantize", DEMO, self.path("a.gguf"), "Q9_0"), 1, "Q4_K_M")
        self.assert_fails(carat("quantize", DEMO, self.path("a.gguf")), 2, "no type")
        self.assert_fails(carat("quantize", DEMO), 2, "TARGET")
        self.assert_fails(carat("quantize", self.path("none.gguf"), out, "Q8_0"), 1, "no such file")
        self.assert_fails(carat("quantize", DEMO, os.path.join(self.folder, "no", "a.gguf"), "Q8_0"), 1, "no/a.gguf")
        self.assert_fails(carat("quantize", DEMO, self.path("a.gguf"), "Q8_0", "--tensor", "attn"), 1, "PART=TYPE")
        self.assertEqual(os.listdir(self.folder), ["made.gguf"])

    def test_a_plan_writes_nothing(self):
        out = self.path("made.gguf")
        plan = json.loads(self.make("quantize", DEMO, out, "Q4_K_M", "--dry-run", "--json").out)
        self.assertEqual(os.listdir(self.folder), [])
        self.make("quantize", DEMO, out, "Q4_K_M", "--quiet")
        self.assertEqual(plan["file_size"], os.path.getsize(out))
        self.assertTrue(plan["is_planned"])

    def test_threads_do_not_matter(self):
        a, b = self.path("a.gguf"), self.path("b.gguf")
        self.make("quantize", DEMO, a, "Q4_K", "--threads", "1", "--quiet")
        self.make("quantize", DEMO, b, "Q4_K", "--threads", "3", "--verbose")
        self.assertEqual(content(a), content(b))


class Restarts(JobTest):
    ROUNDS = int(os.environ.get("CARAT_KILLS", "50"))

    def test_killed_at_any_moment(self):
        whole, out = self.path("whole.gguf"), self.path("made.gguf")
        started = time.monotonic()
        self.make("quantize", DEMO, whole, "Q4_K", "--quiet")
        seconds = time.monotonic() - started
        want, n_kills, n_whole, n_resumed = content(whole), 0, 0, 0
        chance = random.Random()
        while n_kills < self.ROUNDS or n_whole == 0 or n_resumed == 0:
            self.assertLess(n_kills, 10 * self.ROUNDS, "never killed in the middle")
            words = [CARAT, "quantize", DEMO, out, "Q4_K", "--json"]
            run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                text, err = run.communicate(timeout=chance.uniform(0, seconds) if n_kills < self.ROUNDS or n_whole else 100)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                run.communicate()
                n_kills += 1
                # The machine may be slower than it was, or faster: most should be killed at work.
                seconds *= 1 if os.path.exists(out + ".part") else 1.1
            else:
                self.assertEqual(run.returncode, 0, err)
                n_resumed += json.loads(text)["resumed"]
                seconds *= 0.9
            if os.path.exists(out):
                self.assertEqual(content(out), want)
                n_whole += 1
                # Killed behind the last step but one: the same command then only tidies up.
                self.assertLessEqual(carat(*words[1:]).code, 1)
                for name in glob.glob(out + "*"):
                    os.remove(name)

    def test_converting_is_killed_at_any_moment(self):
        whole, out = self.path("whole"), self.path("made")
        self.make("convert", DEMO, whole, "--type", "f32", "--quiet")
        want, chance, n_kills = content(os.path.join(whole, "model.safetensors")), random.Random(), 0
        for attempt in range(10 * self.ROUNDS):
            if n_kills == self.ROUNDS:
                break
            run = subprocess.Popen([CARAT, "convert", DEMO, out, "--type", "f32", "--quiet"], stderr=subprocess.PIPE)
            try:
                err = run.communicate(timeout=chance.uniform(0, 0.12))[1]
            except subprocess.TimeoutExpired:
                run.kill()
                run.communicate()
                n_kills += 1
            else:
                if run.returncode: # the one before was killed behind its last step
                    self.assertIn(b"is there already", err)
                self.assertEqual(content(os.path.join(out, "model.safetensors")), want)
                shutil.rmtree(out)
        if not os.path.exists(os.path.join(out, "model.safetensors")):
            self.make("convert", DEMO, out, "--type", "f32", "--quiet")
        self.assertEqual(content(os.path.join(out, "model.safetensors")), want)

    def test_only_the_same_job_goes_on(self):
        out = self.path("made.gguf")
        run = None
        while not os.path.exists(out + ".part.journal") or os.path.getsize(out + ".part.journal") < 200:
            for name in glob.glob(out + "*"):
                os.remove(name)
            run = subprocess.Popen([CARAT, "quantize", DEMO, out, "IQ4_XS", "--quiet", "--threads", "1"])
            time.sleep(random.uniform(0.05, 0.4))
            run.kill()
            run.wait()
        self.assert_fails(carat("quantize", DEMO, out, "Q8_0"), 1, "other options")
        # A damaged beginning is made again.
        with open(out + ".part", "r+b") as f:
            f.seek(5000)
            f.write(b"damage")
        done = json.loads(self.make("quantize", DEMO, out, "IQ4_XS", "--json").out)
        self.assertEqual(done["resumed"], 0)
        whole = self.path("whole.gguf")
        self.make("quantize", DEMO, whole, "IQ4_XS", "--quiet")
        self.assertEqual(content(out), content(whole))
        self.make("quantize", DEMO, out, "Q8_0", "--force", "--quiet")
        self.assertEqual(sorted(os.listdir(self.folder)), ["made.gguf", "whole.gguf"])


class Importance(JobTest):
    def prompts(self):
        lines = [{"text": "Paris is the capital of France."}, {"prompt": QUESTION, "answer": "The capital of France is Paris."},
                 {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}]
        return self.path("prompts.jsonl", "\n".join(json.dumps(line) for line in lines) + "\n\n")

    def test_collected_kept_and_read_again(self):
        prompts, a, b = self.prompts(), self.path("a.gguf"), self.path("b.gguf")
        for name in ["kept.gguf", "kept.dat"]:
            kept = self.path(name)
            done = self.make("quantize", DEMO, a, "Q4_K", "--quiet", "--force", "--importance-from", prompts, "--save-imatrix", kept)
            self.assertEqual(done.err, "")
            self.make("quantize", DEMO, b, "Q4_K", "--quiet", "--force", "--imatrix", kept)
            if name == "kept.gguf":  # sums and counts, as they are; the older form rounds means
                self.assertEqual(content(a), content(b))
            self.assertIn("Paris", self.answer(b))
        made = Gguf(self.path("kept.gguf"))
        self.assertEqual(made.keys["general.type"], "imatrix")
        names = [f"blk.{layer}.{part}.weight" for layer in range(4)
                 for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] if (layer, part) != (3, "attn_v")]
        self.assertEqual({n[:-8] for n in made.tensors if n.endswith(".in_sum2")}, {*names, "token_embd.weight"})
        sums = struct.unpack("<256f", made.tensors["blk.0.attn_q.weight.in_sum2"][2])
        count = struct.unpack("<f", made.tensors["blk.0.attn_q.weight.counts"][2])[0]
        self.assertGreater(min(sums), 0)
        self.assertGreater(count, 20)
        self.assertEqual(sums, struct.unpack("<256f", made.tensors["blk.0.attn_k.weight.in_sum2"][2]))
        plain = self.path("plain.gguf")
        self.make("quantize", DEMO, plain, "Q4_K", "--quiet")
        self.assertNotEqual(content(a), content(plain))

    def test_it_lessens_the_error_that_counts(self):
        kept, errors = self.path("kept.gguf"), []
        self.make("quantize", DEMO, self.path("a.gguf"), "Q4_K", "--quiet", "--importance-from", self.prompts(), "--save-imatrix", kept)
        sums = struct.unpack("<512f", Gguf(kept).tensors["blk.1.ffn_down.weight.in_sum2"][2])
        for words in [[], ["--imatrix", kept]]:
            out = self.path("b.gguf")
            self.make("quantize", DEMO, out, "Q4_K", "--tensor", "ffn_down=Q4_0", "--quiet", "--force", *words)
            back, exact = self.path("back"), self.path("exact")
            for source, target in [(out, back), (DEMO, exact)]:
                self.make("convert", source, target, "--type", "f32", "--quiet", "--force")
            name = "model.layers.1.mlp.down_proj.weight"
            new, old = (struct.unpack("<131072f", safetensors(os.path.join(x, "model.safetensors"))[name][2]) for x in [back, exact])
            errors.append(sum(sums[i % 512] * (a - b) ** 2 for i, (a, b) in enumerate(zip(new, old))))
        self.assertLess(errors[1], errors[0])

    def test_text_and_media(self):
        text = self.path("book.txt", "The sun is a star. " * 300)
        self.make("quantize", DEMO, self.path("a.gguf"), "Q4_0", "--importance-from", text, "--importance-tokens", "600", "--quiet")
        sound = self.path("tone.wav", b"RIFF" + struct.pack("<I", 36 + 6400) + b"WAVEfmt " +
                          struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + struct.pack("<I", 6400) +
                          b"".join(struct.pack("<h", i * 37 % 2000 - 1000) for i in range(3200)))
        picture = self.path("p.ppm", b"P6\n48 48\n255\n" + bytes(i * 7 % 256 for i in range(48 * 48 * 3)))
        lines = [{"prompt": "What is said?", "audio": os.path.basename(sound)}, {"prompt": "What is seen?", "image": [picture]},
                 {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file://" + picture}},
                                                            {"type": "text", "text": "Well?"}]}]}]
        prompts = self.path("prompts.jsonl", "\n".join(map(json.dumps, lines)))
        done = self.make("quantize", DEMO, self.path("b.gguf"), "Q4_0", "--importance-from", prompts)
        self.assertIn("3 prompts", done.err)

    def test_what_is_refused(self):
        out = self.path("a.gguf")
        for text, words in [("{\"text\": 3}\n", ["expected", "line 1"]), ("{\"prompt\": \"x\", \"image\": \"none.png\"}", ["none.png"]),
                            ("\n{\n", ["prompts.jsonl"])]:
            self.assert_fails(carat("quantize", DEMO, out, "Q8_0", "--importance-from", self.path("prompts.jsonl", text)), 1, *words)
        self.assert_fails(carat("quantize", DEMO, out, "Q8_0", "--imatrix", self.path("x.dat", b"\x01\0\0\0\xff\xff\xff\xff")), 1, "imatrix")
        self.assert_fails(carat("quantize", DEMO, out, "Q8_0", "--imatrix", DEMO), 1, "in_sum2")
        other = struct.pack("<Ii19sIIff", 1, 19, b"blk.0.attn_q.weight", 1, 2, 1.0, 1.0)
        self.assert_fails(carat("quantize", DEMO, out, "Q8_0", "--imatrix", self.path("y.dat", other)), 1, "another model")
        self.assert_fails(carat("quantize", DEMO, out, "Q8_0", "--save-imatrix", "x"), 1, "--importance-from")


class Converting(JobTest):
    def test_a_checkpoint_there_and_back(self):
        gguf, back = self.path("one.gguf"), self.path("back")
        self.make("convert", CHECKPOINT, gguf, "--quiet")
        self.make("convert", gguf, back, "--quiet")
        want = safetensors(os.path.join(CHECKPOINT, "model.safetensors"))
        made = safetensors(os.path.join(back, "model.safetensors"))
        self.assertEqual(sorted(made), sorted(want))
        for name, tensor in want.items():
            self.assertEqual(made[name], tensor, name)
        for words in [["--ids", "5 9 40 77 200"], ["hello the there"]]:
            texts = {carat("tokenize", model, *words).out for model in [CHECKPOINT, gguf, back]}
            self.assertEqual(len(texts), 1)

    def test_one_file_with_what_sees_and_hears(self):
        one, two, mmproj = self.path("one.gguf"), self.path("two.gguf"), self.path("mmproj-two.gguf")
        self.make("convert", CHECKPOINT, one, "--quiet")
        self.make("convert", CHECKPOINT, two, "--mmproj", mmproj, "--quiet")
        facts = json.loads(self.make("inspect", one, "--json").out)
        self.assertTrue(facts["sees"] and facts["hears"])
        self.assertEqual(facts["projector"], one)
        want = Gguf(os.path.join(DATA, "fixtures", "unified-gguf", "mmproj-bf16.gguf"))
        made = Gguf(mmproj)
        for key, value in want.keys.items():
            if key.startswith("clip."):
                self.assertEqual(made.keys.get(key), value, key)
        self.assertEqual(sorted(made.tensors), sorted(want.tensors))
        for name, (kind, dims, data) in want.tensors.items():
            self.assertEqual(made.tensors[name][1], dims, name)
            if made.tensors[name][0] == kind:
                self.assertEqual(made.tensors[name][2], data, name)
            else:  # F32 there: BF16 is its upper half
                self.assertEqual(made.tensors[name][2], b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4)), name)
        self.assertEqual({**Gguf(two).tensors, **made.tensors}, Gguf(one).tensors)
        # The projections that are apart go into a checkpoint, too.
        back = self.path("back")
        self.make("convert", two, back, "--projector", mmproj, "--quiet")
        self.assertEqual(safetensors(os.path.join(back, "model.safetensors")), safetensors(os.path.join(CHECKPOINT, "model.safetensors")))

    def test_the_demo_model_answers_as_a_checkpoint(self):
        back = self.path("demo")
        self.make("convert", DEMO, back, "--projector", MMPROJ, "--type", "f32", "--quiet")
        self.assertEqual(self.answer(back), self.answer(DEMO))
        again = self.path("again.gguf")
        self.make("quantize", back, again, "Q8_0", "--pure", "--quiet")
        want, made = Gguf(DEMO), Gguf(again)
        self.assertEqual(made.tensors, want.tensors)
        for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.chat_template"]:
            self.assertEqual(made.keys[key], want.keys[key], key)
        self.assert_fails(carat("convert", DEMO, back), 1, "by force")
        self.assert_fails(carat("convert", CHECKPOINT, self.path("x")), 1, "already")

    def test_what_the_smallest_beginning_left_is_gone_on_with(self):
        """Killed when the configuration was there and of the model only an empty journal."""
        out = self.path("made")
        self.make("convert", DEMO, out, "--quiet")
        want = content(os.path.join(out, "model.safetensors"))
        os.rename(os.path.join(out, "model.safetensors"), os.path.join(out, "model.safetensors.part.journal"))
        os.truncate(os.path.join(out, "model.safetensors.part.journal"), 0)
        self.make("convert", DEMO, out, "--quiet")
        self.assertEqual(content(os.path.join(out, "model.safetensors")), want)
        self.assertEqual([n for n in os.listdir(out) if "part" in n], [])


PEER = os.environ.get("CARAT_PEER_PYTHON")
ASK_PEER = """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=256, logits_all=True, verbose=False)
for prompt in sys.argv[2:]:
    tokens = [int(t) for t in prompt.split()]
    model.reset()
    model.eval(tokens)
    print(" ".join(repr(float(x)) for row in model.scores[:len(tokens)] for x in row))
"""


@unittest.skipUnless(PEER, "CARAT_PEER_PYTHON names no Python with llama-cpp-python")
class Peer(JobTest):
    def test_it_loads_what_carat_makes(self):
        """And its logits are those that it has for the source, up to the type."""
        # One row alone says little about a type: errors of single logits scatter by a factor of three.
        questions = [QUESTION, "What is 3 plus 4?", "Who are you?", "What color is the sky?", "Say hello."]
        prompts = [carat("tokenize", DEMO, "--special", f"<bos><|turn>user\n{q}<turn|>\n<|turn>model\n").out for q in questions]
        source = self.path("f16.gguf")
        self.make("quantize", DEMO, source, "F16", "--quiet")

        def logits(path):
            done = subprocess.run([PEER, "-c", ASK_PEER, path, *prompts], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr[-2000:])
            return [float(x) for x in done.stdout.split()]

        want = logits(source)
        mean = sum(want) / len(want)
        spread = (sum((x - mean) ** 2 for x in want) / len(want)) ** 0.5
        limits = {"Q8_0": 0.02, "Q6_K": 0.06, "Q5_K_M": 0.1, "Q4_K_M": 0.2, "Q4_0": 0.3, "IQ4_XS": 0.25, "Q3_K": 0.5, "auto:2.4MB": 0.2}
        for name, limit in limits.items():
            with self.subTest(type=name):
                out = self.path("made.gguf")
                self.make("quantize", source, out, name, "--quiet", "--force")
                found = logits(out)
                error = (sum((a - b) ** 2 for a, b in zip(found, want)) / len(want)) ** 0.5 / spread
                self.assertLess(error, limit)
        folder, out = self.path("checkpoint"), self.path("of-checkpoint.gguf")
        self.make("convert", source, folder, "--type", "f16", "--quiet")
        self.make("quantize", folder, out, "F16", "--quiet")
        self.assertEqual(logits(out), want)

    def test_its_package_reads_what_carat_makes(self):
        out = self.path("made.gguf")
        self.make("quantize", DEMO, out, "Q4_K_M", "--quiet", "--importance-from", self.path("t.txt", "Hello there. " * 40),
                  "--save-imatrix", self.path("kept.gguf"))
        for path in [out, self.path("kept.gguf")]:
            done = subprocess.run([PEER, "-c", "import sys, gguf\nr = gguf.GGUFReader(sys.argv[1])\n"
                                               "print(len([gguf.dequantize(t.data, t.tensor_type) for t in r.tensors]))", path],
                                  capture_output=True, text=True, timeout=300)
            if "No module named 'gguf'" in done.stderr:
                self.skipTest("the package gguf is not there")
            self.assertEqual(done.stdout.split(), [str(len(Gguf(path).tensors))], done.stderr)


if __name__ == "__main__":
    if not PEER:
        print("notice: CARAT_PEER_PYTHON is not set: the peer is not asked", file=sys.stderr)
    unittest.main()
