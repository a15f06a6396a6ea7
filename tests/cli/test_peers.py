# SPDX-License-Identifier: Apache-2.0
"""The comparison with a peer, with a stand-in for the peer: what is asked of it, and what is made of the
answers. And the form in which the peer's saved state is read and lengthened."""
import importlib.util
import json
import os
import struct
import subprocess
import sys
import types
import unittest

from common import CARAT, DEMO, CommandTest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Speeds that follow from what was asked, so that every figure can be foretold. Weights that are mapped and
# not repacked win; mapped and repacked cannot be done at all.
STAND_IN = f"""#!{sys.executable}
import json, sys
if sys.argv[1] == "-c":
    sys.exit(0)
spec = json.loads(sys.argv[2])
with open(__file__ + ".log", "a") as f:
    print(json.dumps(spec), file=f)
if spec["mmap"] and spec["repack"]:
    print(json.dumps({{"error": "no room"}}))
    sys.exit(0)
speed = 4.0 if spec["mmap"] else 2.0
jobs = [speed * job.get("rows", 1) / (1 + job.get("depth", 0)) for job in spec["jobs"]]
print(json.dumps({{"load_s": 1000 / speed, "first_token_s": 2000.0, "jobs": jobs, "version": "9", "system": "X = 1",
                  "resident_peak": 10**9 if spec["kv_type"] == "f16" else 10**12}}))
"""


class Comparing(CommandTest):
    def compare(self, *words):
        peer = self.path("peer", STAND_IN)
        os.chmod(peer, 0o755)
        out = self.path("peers.json")
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "check_peers.py"), "--carat", CARAT, "--python", peer,
                               "--json", out, "--threads", "1", "--tokens", "4", "--no-limits", *words, DEMO],
                              capture_output=True, text=True, timeout=120)
        with open(out, encoding="utf-8") as f:
            found = json.load(f)["models"][0]
        with open(peer + ".log", encoding="utf-8") as f:
            asked = [json.loads(line) for line in f]
        return done, found, asked

    def test_every_figure(self):
        done, found, asked = self.compare("--runs", "2", "--depths", "0,3", "--lengths", "16", "--rows", "4")
        figures = {figure["figure"]: figure for figure in found["figures"]}
        self.assertEqual(list(figures), ["decode at depth 0", "decode at depth 3", "prefill 16", "batch of 1", "batch of 4",
                                         "memory, context 4096, f16", "memory, context 4096, q8_0", "load",
                                         "start to first token", "decode beside two busy processes"])
        self.assertEqual(figures["decode at depth 3"]["peer"], {"mapped": [1.0, 1.0]})  # what was best in the trial goes on
        self.assertEqual(figures["batch of 4"]["peer"], {"mapped": [16.0, 16.0]})
        for name, figure in figures.items():
            self.assertEqual(len(figure["carat"]), 1 if "memory" in name else 2)
        prefill = figures["prefill 16"]
        self.assertAlmostEqual(prefill["ratio"], sum(prefill["carat"]) / 2 / 4.0)
        self.assertAlmostEqual(prefill["ratio_by_turn"][1], prefill["carat"][1] / 4.0)
        load, memory = figures["load"], figures["memory, context 4096, f16"]
        self.assertEqual(load["peer_best"], "mapped")  # less time is better
        self.assertEqual(load["peer"]["read"], [500.0, 500.0])
        self.assertAlmostEqual(load["ratio"], 250.0 / (sum(load["carat"]) / 2))
        self.assertEqual(set(memory["peer"]), {"mapped", "read", "read, repacked"})
        self.assertAlmostEqual(memory["ratio"], 1e9 / memory["carat"][0])
        # All that both are told alike.
        self.assertEqual({spec["threads"] for spec in asked}, {1})
        self.assertEqual({spec["model"] for spec in asked}, {os.path.abspath(DEMO)})
        self.assertEqual({job["tokens"] for spec in asked for job in spec["jobs"] if job["what"] == "decode"}, {4, 8})
        # What the peer could not do is said.
        self.assertEqual(done.returncode, 1)
        self.assertIn("llama.cpp (mapped, repacked): no room", found["problems"])
        self.assertIn("PROBLEM: llama.cpp (mapped, repacked): no room", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^decode at depth 3, tokens/s +\d[\d.]* \([\d.]+\) +1\.00 \(1\.00\.\.1\.00\) .* mapped$")
        self.assertRegex(done.stdout, r"(?m)^batch of 4 to batch of 1 +\d+\.\d\d x +4\.00 x$")

    def test_a_part(self):
        done, found, asked = self.compare("--only", "decode", "--runs", "1", "--depths", "7", "--weights", "read")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([figure["figure"] for figure in found["figures"]], ["decode at depth 7"])
        self.assertEqual([spec["jobs"] for spec in asked], [[{"what": "decode", "depth": 7, "tokens": 4}]])
        self.assertEqual(found["figures"][0]["peer"], {"read": [0.25]})

    def test_what_is_not_there(self):
        for words, said in ((["no-model.gguf"], "no such file"), (["--carat", "no-carat"], "no such program"),
                            (["--python", "/bin/false", DEMO], "cannot import"), (["--only", "nothing"], "expected some of")):
            done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "check_peers.py"), "--carat", CARAT, *words],
                                  capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stderr)


def load_child():
    """The part that runs beside llama.cpp, without llama.cpp."""
    lib = types.ModuleType("llama_cpp")
    lib.llama_log_callback = lambda function: function
    sys.modules["llama_cpp"] = lib
    spec = importlib.util.spec_from_file_location("peer_child", os.path.join(ROOT, "tools", "peer_child.py"))
    child = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    return child


def cache(positions, rows, values=True):
    """A cache as llama.cpp writes it: rows, by layer, are lists of a byte for each cell."""
    data = struct.pack("<II", 1, len(positions))
    for position in positions:
        data += struct.pack("<iIi", position, 1, 0)
    data += struct.pack("<II", 0, len(rows))
    for kind in range(2 if values else 1):
        for layer in rows:
            data += struct.pack("<iQ", 1, 3) + b"".join(bytes([cell, kind, 255]) for cell in layer)
    return data


class SavedState(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.child = load_child()

    def test_rows_are_repeated(self):
        for values in ((True, True), (False, True), (True, False)):
            with self.subTest(values=values):
                state = b"headhead" + cache([0, 1, 2], [[1, 2, 3], [4, 5, 6]], values[0]) + cache([2, 1], [[7, 8]], values[1])
                full, sliding = self.child.parse_state(state)
                self.assertEqual(b"".join(full.repeated(0, 7)),
                                 cache(range(7), [[1, 2, 3, 1, 2, 3, 1], [4, 5, 6, 4, 5, 6, 4]], values[0]))
                self.assertEqual(b"".join(sliding.repeated(95, 5)), cache(range(95, 100), [[7, 8, 7, 8, 7]], values[1]))

    def test_another_form_is_refused(self):
        right = b"headhead" + cache([0, 1], [[1, 2]]) + cache([0, 1], [[3, 4]])
        for wrong in (right[:-1], right + b"x", right[:12], b"headhead" + struct.pack("<II", 2, 1) + right[16:],
                      b"headhead" + cache([0, 9999], [[1, 2]]), b"headhead" + struct.pack("<II", 1, 0)):
            with self.assertRaises(self.child.Failed):
                self.child.parse_state(wrong)


if __name__ == "__main__":
    unittest.main()
