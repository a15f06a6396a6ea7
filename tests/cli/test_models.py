# SPDX-License-Identifier: Apache-2.0
"""Model files that are not what they should be, and what inspect, tokenize, bench and verify make of
those that are."""
import json
import os
import shutil
import unittest
import xml.etree.ElementTree

from common import DATA, DEMO, CommandTest, carat, make_gguf

ALL = (["run", "{}", "Hello"], ["chat", "{}"], ["inspect", "{}"], ["tokenize", "{}", "Hello"],
       ["bench", "{}"])


class WrongFiles(CommandTest):
    def each_command(self, path, *said, commands=ALL):
        for words in commands:
            with self.subTest(words[0]):
                words = [word.format(path) for word in words]
                self.assert_fails(carat(*words, stdin="Hello\n"), 1, *said)

    def test_a_path_that_is_not_there(self):
        self.each_command("no/such/model.gguf", "no/such/model.gguf", "no such file")
        self.assert_fails(carat("run", "missing.gguf"), 1, "missing.gguf", "no such file")
        self.assert_fails(carat("run", "hi", env={"CARAT_MODEL": "gone.gguf"}), 1, "gone.gguf",
                          "CARAT_MODEL")

    def test_an_empty_file(self):
        self.each_command(self.path("empty.gguf", b""), "empty.gguf")

    def test_a_text_file(self):
        self.each_command(self.path("notes.txt", "some notes\n" * 100), "notes.txt")

    def test_a_folder_without_a_model(self):
        os.mkdir(self.path("folder"))
        self.each_command(self.path("folder"), "folder")

    def test_a_truncated_file(self):
        with open(DEMO, "rb") as f:
            whole = f.read()
        for size in (3, 20, 1000, len(whole) // 2, len(whole) - 1):
            path = self.path(f"cut-{size}.gguf", whole[:size])
            with self.subTest(size=size):
                self.each_command(path, os.path.basename(path), commands=ALL[:3])

    def test_another_architecture(self):
        path = self.path("llama.gguf", make_gguf("llama"))
        self.each_command(path, "llama", commands=[ALL[0], ALL[1], ALL[4]])

    def test_directory_instead_of_folder_of_goldens(self):
        result = carat("verify", self.path("nowhere"))
        self.assertEqual(result.code, 1)
        self.assertIn("no such folder", result.err)
        self.assertEqual(result.out, "0 passed, 1 failed\n")


class Inspect(CommandTest):
    def test_demo_model(self):
        result = carat("inspect", DEMO)
        self.assertEqual((result.code, result.err), (0, ""))
        for word in ("GGUF", "Q8_0", "general.architecture", "Memory", "kv cache", "total"):
            self.assertIn(word, result.out)

    def test_memory_adds_up_and_grows(self):
        found = json.loads(carat("inspect", DEMO, "--json").out)
        self.assertTrue(found["can_run"])
        parts = ("weights", "tables", "kv_sliding", "kv_full", "scratch")
        totals = [row["total"] for row in found["memory"]]
        for row in found["memory"]:
            self.assertEqual(row["total"], sum(row[part] for part in parts))
        self.assertEqual(totals, sorted(totals))
        self.assertEqual(found["memory"][-1]["context"], found["context_max"])
        smaller = json.loads(carat("inspect", DEMO, "--json", "--kv-type", "q8_0").out)
        self.assertLess(smaller["memory"][-1]["kv_full"], found["memory"][-1]["kv_full"])

    def test_tensors_are_listed(self):
        found = json.loads(carat("inspect", DEMO, "--json", "--tensors").out)["tensors"]
        self.assertEqual(len(found["list"]), found["count"])
        self.assertEqual(sum(t["size"] for t in found["list"]), found["size"])
        self.assertIn("token_embd.weight", carat("inspect", DEMO, "--tensors").out)

    def test_other_models_are_shown_too(self):
        path = self.path("llama.gguf", make_gguf("llama"))
        result = carat("inspect", path)
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("Not a Gemma 4 model", result.out)
        found = json.loads(carat("inspect", path, "--json").out)
        self.assertEqual((found["architecture"], found["can_run"]), ("llama", False))
        self.assertTrue(found["reason"])

    def test_hugging_face_directory(self):
        found = json.loads(carat("inspect", f"{DATA}/fixtures/unified-text/model", "--json").out)
        self.assertEqual((found["container"], found["can_run"]), ("safetensors", True))
        self.assertIn("text_config.hidden_size", found["metadata"])


class Tokenize(CommandTest):
    def test_there_and_back(self):
        for text in ("Hello, world", "  two  spaces\n", "caf\u00e9 \u6c34 \U0001f600", "<turn|>", ""):
            with self.subTest(text):
                found = json.loads(carat("tokenize", "--json", DEMO, text).out)
                self.assertEqual((found["count"], found["text"]), (len(found["ids"]), text))
                ids = " ".join(map(str, found["ids"]))
                self.assertEqual(carat("tokenize", "--special", "--ids", ids).out, text)
                self.assertEqual(carat("tokenize", "--decode", "--special", stdin=ids).out, text)

    def test_piped_text_is_taken_as_it_is(self):
        piped = carat("tokenize", "--json", "-", stdin="a line\n")
        self.assertEqual(json.loads(piped.out)["text"], "a line\n")
        self.assertEqual(carat("tokenize", "--count", stdin="").out, "0\n")

    def test_control_tokens_are_text_unless_asked(self):
        self.assertEqual(len(carat("tokenize", "--special", "<turn|>").out.split()), 1)
        self.assertGreater(len(carat("tokenize", "<turn|>").out.split()), 1)

    def test_bos(self):
        plain, with_bos = carat("tokenize", "a").out.split(), carat("tokenize", "--bos", "a").out.split()
        self.assertEqual(with_bos[1:], plain)

    def test_ids_that_are_not_there(self):
        for ids in ("99999999", "-1", "x", "1.5"):
            with self.subTest(ids):
                self.assert_fails(carat("tokenize", "--ids", ids), 1, "ids")


class Bench(CommandTest):
    def test_json_has_what_was_asked_for(self):
        result = carat("bench", DEMO, "--prefill", "8,24", "--decode", "4", "--depth", "0,16",
                       "--threads", "2", "--runs", "3", "--json")
        self.assertEqual((result.code, result.err), (0, ""))
        found = json.loads(result.out)
        self.assertEqual([row["tokens"] for row in found["prefill"]], [8, 24])
        self.assertEqual([row["depth"] for row in found["decode"]], [0, 16])
        for row in found["prefill"] + found["decode"]:
            self.assertGreater(row["tokens_per_s"], 0)
            self.assertLessEqual(row["min_tokens_per_s"], row["tokens_per_s"])
            self.assertLessEqual(row["tokens_per_s"], row["max_tokens_per_s"])
        self.assertEqual(found["threads"], 2)

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "the plan does not count a sanitizer's memory")
    @unittest.skipUnless(os.environ.get("CARAT_SANITIZE", "none") == "none",
                         "sanitizers take memory of their own")
    def test_memory_stays_within_the_plan(self):
        found = json.loads(carat("bench", DEMO, "--prefill", "600", "--decode", "8", "--runs", "1",
                                 "--json").out)["memory"]
        self.assertLessEqual(found["measured_private"], found["total"] - found["weights"])

    def test_limits(self):
        found = json.loads(carat("bench", "--limits", "--prefill", "8", "--decode", "4", "--runs", "1", "--threads", "2", "--json").out)
        levels = [level["name"] for level in found["limits"]["levels"]]
        self.assertEqual(found["limits"]["threads"], 2)
        if found["cpu"] != "generic":  # which has no vectors to measure
            self.assertIn(found["cpu"], levels)
            self.assertGreater(found["prefill"][0]["share_of_limit"], 0)
            self.assertIn(found["decode"][0]["bound_by"], ("memory", "multiply-adds"))
        limits, load = found["limits"], found["load_s"]
        rates = {"memory": limits["read_bytes_per_s"], "fresh memory": limits["fresh_bytes_per_s"]}
        slower = min((rate, name) for name, rate in rates.items() if rate > 0)
        self.assertEqual(found["load_bound_by"], slower[1])
        share = found["memory"]["weights"] / slower[0] / load
        self.assertAlmostEqual(found["load_share_of_limit"], share, delta=0.01 * share)
        # Evaluating the prompt comes on top, in time and in what it takes at least.
        self.assertGreater(found["first_token_share_of_limit"] * found["first_token_s"], 0.99 * share * load)
        self.assertIn(found["first_token_bound_by"], ("memory", "multiply-adds", "fresh memory"))

    def test_start_without_limits(self):
        found = json.loads(carat("bench", "--prefill", "0", "--decode", "0", "--json").out)
        self.assertFalse([key for key in found if "limit" in key or "bound" in key])

    def test_table(self):
        out = carat("bench", "--prefill", "4", "--decode", "2", "--depth", "0,9", "--batch", "2", "--runs", "1").out
        self.assertRegex(out, r"(?m)^prefill +0 +4 ")
        self.assertRegex(out, r"(?m)^decode +0 +2 ")
        self.assertRegex(out, r"(?m)^decode +9 +2 ")
        self.assertRegex(out, r"(?m)^batch +1 +1\.00 ")
        self.assertRegex(out, r"(?m)^batch +2 +\d+\.\d\d ")
        self.assertRegex(out, r"First token of a prompt of 10: \d+\.\d\d s")
        self.assertIn("filled in, not evaluated", out)
        alone = carat("bench", "--prefill", "4", "--decode", "2", "--runs", "1").out
        self.assertNotIn("batch", alone)
        self.assertNotIn("filled", alone)

    def test_batches(self):
        found = json.loads(carat("bench", "--prefill", "0", "--decode", "4", "--batch", "3,16", "--runs", "1", "--json").out)
        self.assertEqual([row["rows"] for row in found["batch"]], [1, 3, 16])  # one row is the measure of the others
        self.assertEqual(found["batch"][0]["ratio_to_one"], 1)
        for row in found["batch"]:
            self.assertAlmostEqual(row["ratio_to_one"], row["tokens_per_s"] / found["batch"][0]["tokens_per_s"], 2)
        found = json.loads(carat("bench", "--prefill", "0", "--decode", "4", "--batch", "2,1", "--runs", "1", "--json").out)
        self.assertEqual([row["rows"] for row in found["batch"]], [2, 1])
        self.assertEqual(carat("bench", "--batch", "0").code, 2)

    def test_start(self):
        found = json.loads(carat("bench", "--prefill", "0", "--decode", "0", "--json").out)
        self.assertEqual((found["prefill"], found["decode"], found["batch"]), ([], [], []))
        self.assertGreater(found["load_s"], 0)
        self.assertGreater(found["first_token_s"], found["load_s"])

    def test_depths_are_filled_or_evaluated(self):
        words = ["bench", "--prefill", "0", "--decode", "2", "--depth", "4000", "--runs", "1", "--json"]
        for option, how in (([], "filling"), (["--evaluate"], "evaluating")):
            with self.subTest(how):
                found = json.loads(carat(*words, *option).out)
                self.assertEqual((found["decode"][0]["depth"], found["depth_by"]), (4000, how))
                # The whole cache is there, not only promised.
                memory = found["memory"]
                self.assertGreater(memory["measured_private"], 0.9 * (memory["kv_sliding"] + memory["kv_full"]))
        self.assert_fails(carat("bench", "--depth", "5000"), 1, "4096", "5032")

    def test_full_keeps_to_the_context(self):
        result = carat("bench", "--full", "--decode", "2", "--runs", "1", "--context", "600", "--json")
        self.assertEqual(result.code, 0, result.err)
        found = json.loads(result.out)
        self.assertEqual([row["tokens"] for row in found["prefill"]], [128, 512])
        self.assertEqual([row["depth"] for row in found["decode"]], [0])
        self.assertEqual([row["rows"] for row in found["batch"]], [1, 2, 4, 8, 16])
        self.assertEqual(result.err.count("left out"), 5)
        found = json.loads(carat("bench", "--full", "--prefill", "8", "--depth", "7", "--batch", "2", "--decode", "2",
                                 "--runs", "1", "--json").out)
        self.assertEqual([[len(found[key]) for key in ("prefill", "decode", "batch")]], [[1, 1, 2]])

    def test_svg(self):
        path = self.path("speed.svg")
        words = ["bench", "--prefill", "4,8", "--decode", "2", "--depth", "0,512,1024", "--batch", "2", "--runs", "2", "--svg"]
        out = carat(*words, path, "--limits").out
        self.assertRegex(out, r"(?m)^prefill +0 +4 ")  # the table is there as well
        self.assertRegex(out, r"(?m), loaded in \d+\.\d\d s, \d+\.\d % of (fresh )?memory$")
        self.assertRegex(out, r"(?m) s after the start, \d+\.\d % of ")
        name = "{http://www.w3.org/2000/svg}"
        root = xml.etree.ElementTree.parse(path).getroot()
        texts = [text.text for text in root.iter(name + "text")]
        for text in ("carat-demo", "Reading a prompt", "Writing an answer", "Conversations together", "512", "1K", "the machine's limit"):
            self.assertIn(text, texts)
        self.assertEqual(len(list(root.iter(name + "circle"))), 2 + 3 + 2 + 1)  # a point for each, and the legend's
        width, height = float(root.get("width")), float(root.get("height"))
        for circle in root.iter(name + "circle"):
            self.assertTrue(0 < float(circle.get("cx")) < width and 0 < float(circle.get("cy")) < height)
        self.assertGreaterEqual(len(list(root.iter(name + "polyline"))), 3)
        result = carat(*words, self.path("no/such/folder.svg"))
        self.assertEqual(result.code, 1)
        self.assertIn("folder.svg", result.err)

    def test_svg_of_a_hostile_name(self):
        with open(DEMO, "rb") as f:
            model = f.read()
        hostile = b"<&\"\x01\x02]]>a-"
        self.assertEqual(model.count(b"carat-demo"), 1)
        path, drawing = self.path("hostile.gguf", model.replace(b"carat-demo", hostile)), self.path("hostile.svg")
        self.assertEqual(carat("bench", path, "--prefill", "4", "--decode", "0", "--runs", "1", "--svg", drawing).code, 0)
        root = xml.etree.ElementTree.parse(drawing).getroot()
        self.assertEqual(next(root.iter("{http://www.w3.org/2000/svg}text")).text, "<&\"\ufffd\ufffd]]>a-")

    def test_what_does_not_go_together(self):
        for words in (["--media", "--full"], ["--media", "--svg", "a.svg"], ["--media", "--batch", "2"]):
            self.assert_fails(carat("bench", *words), 2, "--media")


class Verify(CommandTest):
    def test_goldens_pass(self):
        result = carat("verify", f"{DATA}/fixtures/unified-text", f"{DATA}/fixtures/tokenizer")
        self.assertEqual(result.code, 0, result.out)
        self.assertRegex(result.out, r"out\.hidden\.0 .* largest error .* tolerance")
        self.assertRegex(result.out.splitlines()[-1], r"^[1-9]\d* passed, 0 failed$")

    def test_a_file_among_the_folders_is_passed_over(self):
        result = carat("verify", f"{DATA}/README.md", f"{DATA}/fixtures/tokenizer")
        self.assertEqual(result.code, 0)
        self.assertIn("README.md: passed over", result.err)
        self.assertEqual(carat("verify", f"{DATA}/README.md").code, 1)  # nothing was shown

    def test_a_wrong_number_is_found(self):
        copy = self.path("elsewhere")
        shutil.copytree(f"{DATA}/fixtures/unified-text", copy)
        path = os.path.join(copy, "golden.safetensors")
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            size = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(size))
            begin = header["out.hidden.1"]["data_offsets"][0]
            f.seek(8 + size + begin)
            f.write(b"\x00\x00\x80\x42")  # 64.0
        result = carat("verify", copy, "--json")
        self.assertEqual(result.code, 1)
        found = json.loads(result.out)
        bad = [check["what"] for check in found["goldens"][0]["checks"] if check["status"] == "fail"]
        self.assertEqual((found["failed"], bad), (1, ["out.hidden.1"]))

    def test_what_this_build_lacks_is_not_passed(self):
        golden = {"kind": "draft", "model": "model", "tensors": {}}
        os.makedirs(self.path("all/draft"))
        self.path("all/draft/golden.json", json.dumps(golden))
        named = carat("verify", self.path("all/draft"))
        self.assertEqual(named.code, 1)
        self.assertIn("0 passed, 1 failed", named.out)
        below = carat("verify", self.path("all"))
        self.assertEqual(below.code, 1)  # nothing was shown
        self.assertIn("skipped: needs a drafter", below.out)
        self.assertIn("1 skipped", below.out.splitlines()[-2])

    def test_hostile_goldens_are_errors(self):
        for content in ("", "{", "[]", '{"kind": 3}', '{"kind": "lm"}', '{"kind": "lm", "model": "x"}',
                        '{"kind": "quant"}', '{"kind": "gguf", "goldens": ["..", 7]}',
                        '{"kind": "tokenizer", "cases": [1, {"ids": ["x"]}]}'):
            with self.subTest(content):
                self.path("golden.json", content)
                result = carat("verify", self.folder)
                self.assertEqual(result.code, 1, result.out)
                self.assertRegex(result.out.splitlines()[-1], r"^0 passed, [1-9]\d* failed$")


if __name__ == "__main__":
    unittest.main()
