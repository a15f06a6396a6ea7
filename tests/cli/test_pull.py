# SPDX-License-Identifier: Apache-2.0
"""carat pull against a hub on this machine that drops, lies, stalls and redirects."""
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

from common import CARAT, DEMO, CommandTest, carat, make_gguf
from hub import COMMIT, File, Hub

with open(DEMO, "rb") as f:
    MODEL = f.read()
with open(os.path.join(os.path.dirname(DEMO), "mmproj-carat-demo.gguf"), "rb") as f:
    PROJECTOR = f.read()
REPO = "tiny/carat-demo-GGUF"
NAME = f"{REPO}:Q8_0"
CHECKPOINT = {
    "config.json": File(b'{"model_type":"gemma4_unified"}', False),
    "tokenizer.json": File(b"{}" * 50000, False),
    "chat_template.jinja": File(b"{{ bos_token }}", False),
    "model-00001-of-00002.safetensors": File(b"one" * 500000),
    "model-00002-of-00002.safetensors": File(b"two" * 400000),
    "model.safetensors.index.json": File(b'{"weight_map":{}}', False),
    "README.md": File(b"# A model", False),
    "onnx/model.onnx": File(b"onnx"),
    "consolidated.safetensors": File(b"all" * 10),
}


@unittest.skipUnless(os.environ.get("CARAT_CAN_PULL", "1"), "needs libcurl and libcrypto")
class PullTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        self.hub.repos[REPO] = {"carat-demo-Q8_0.gguf": File(MODEL), "README.md": File(b"x", False),
                                "mmproj-carat-demo-BF16.gguf": File(PROJECTOR),
                                "carat-demo-Q4_0.gguf": File(make_gguf("gemma4"))}
        self.store = self.path("store")
        self.env = {"HF_ENDPOINT": self.hub.url, "CARAT_HOME": self.store, "HOME": self.folder,
                    "CARAT_MODEL": "", "HF_TOKEN": "", "HF_HOME": "", "HF_TOKEN_PATH": "",
                    "XDG_CACHE_HOME": "", "HF_HUB_OFFLINE": "", "http_proxy": "", "no_proxy": "*"}

    def pull(self, *words, **env):
        return carat("pull", *words, env={**self.env, **env})

    def start(self, *words):
        return subprocess.Popen([CARAT, "pull", *words], env={**os.environ, **self.env},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_for_bytes(self, n):
        end = time.monotonic() + 60
        while self.hub.sent < n and time.monotonic() < end:
            time.sleep(0.01)

    def assert_pulled(self, result, data=MODEL):
        self.assertEqual(result.code, 0, result.err)
        with open(result.out.strip(), "rb") as f:
            self.assertTrue(f.read() == data, "the file is not what the hub has")
        self.assert_whole()

    def assert_whole(self):
        """Every file with a name of its own has the content of that name."""
        for name in self.blobs():
            kind, digest = name.split("-")
            with open(os.path.join(self.store, "blobs", name), "rb") as f:
                data = f.read()
            head = b"blob %d\0" % len(data) if kind == "git" else b""
            method = hashlib.sha1 if kind == "git" else hashlib.sha256
            self.assertEqual(method(head + data).hexdigest(), digest)

    def blobs(self, ending=""):
        folder = os.path.join(self.store, "blobs")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(n for n in names if (n.endswith(ending) if ending else "." not in n))

    def names(self):
        return [m["name"] for m in json.loads(self.pull("--list", "--json").out)["models"]]


class Getting(PullTest):
    def test_pulled_model_runs_by_every_form_of_its_name(self):
        result = self.pull(NAME)
        self.assert_pulled(result)
        self.assertIn("2 of 2: mmproj-carat-demo-BF16.gguf", result.err)
        self.assertEqual(self.names(), [NAME])
        self.assertEqual(self.blobs(".part") + self.blobs(".journal") + self.blobs(".lock"), [])
        for words in ([NAME], [REPO], ["carat-demo-GGUF:q8_0"], ["carat-demo"], []):
            with self.subTest(words):
                said = carat("run", *words, "What is the capital of France?", "--temperature", "0", env=self.env)
                self.assertEqual((said.code, said.err), (0, ""))
                self.assertIn("Paris", said.out)
        info = json.loads(carat("inspect", "carat-demo", "--json", env=self.env).out)
        self.assertTrue(info["sees"])
        self.assertIn("mmproj-carat-demo-BF16.gguf", info["projector"])
        self.assertEqual(carat("tokenize", "carat-demo", "x", env=self.env).code, 0)

    def test_without_a_pulled_model_the_demonstration_answers(self):
        if os.path.exists(os.path.join(os.path.dirname(CARAT), "../demo")):  # else it is not found
            info = json.loads(carat("inspect", "--json", env={**self.env}).out)
            self.assertTrue(os.path.samefile(info["path"], DEMO))
        self.assert_fails(carat("inspect", "owner/repo:Q4_0", env=self.env), 1, "carat pull owner/repo:Q4_0")
        self.assert_fails(carat("inspect", "nothing", env=self.env), 1, "nothing: no such file")

    def test_what_is_there_is_not_fetched_again(self):
        self.assert_pulled(self.pull(NAME))
        sent = self.hub.sent
        self.assert_pulled(self.pull(NAME))
        self.assertEqual(self.hub.sent, sent)

    def test_offline_only_what_is_there(self):
        self.assert_fails(self.pull(NAME, "--offline"), 1, "not in the store")
        self.assertEqual(self.hub.requests, [])
        self.assert_pulled(self.pull(NAME))
        n = len(self.hub.requests)
        self.assert_pulled(self.pull(NAME, "--offline"))
        self.assert_pulled(self.pull("carat-demo", HF_HUB_OFFLINE="1"))
        self.assertEqual(len(self.hub.requests), n)

    def test_dry_run_fetches_headers_and_tells_contexts(self):
        result = self.pull(NAME, "--dry-run")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn("7.98 MB of 7.98 MB", result.out)
        self.assertRegex(result.out, r"4,096 tokens +\d+\.\d MB +fits")
        self.assertLess(self.hub.sent, len(MODEL) + len(PROJECTOR) - 4000000)
        self.assertFalse(os.path.exists(self.store))
        info = json.loads(self.pull(NAME, "--dry-run", "--json").out)
        self.assertEqual([(f["name"], f["role"], f["kept"]) for f in info["files"]],
                         [("carat-demo-Q8_0.gguf", "model", 0), ("mmproj-carat-demo-BF16.gguf", "projector", 0)])
        self.assert_pulled(self.pull(NAME))
        real = json.loads(carat("inspect", NAME, "--json", env=self.env).out)
        self.assertEqual([m["total"] for m in info["memory"]], [m["total"] for m in real["memory"]])
        self.assertEqual(json.loads(self.pull(NAME, "--dry-run", "--json").out)["missing"], 0)

    def test_dry_run_of_what_cannot_be_estimated_says_so(self):
        self.hub.repos["a/b"] = CHECKPOINT
        result = self.pull("a/b", "--dry-run")
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("cannot be computed", result.out)

    def test_checkpoint_with_what_belongs_to_it(self):
        self.hub.repos["some/Model"] = {**CHECKPOINT, "assistant/config.json": File(b"{}", False),
                                        "assistant/model.safetensors": File(b"draft")}
        result = self.pull("some/Model")
        folder = result.out.strip()
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(folder, os.path.join(self.store, "models", "some", "Model", "safetensors"))
        found = sorted(os.path.relpath(os.path.join(f, n), folder) for f, _, ns in os.walk(folder) for n in ns)
        left_out = {"README.md", "onnx/model.onnx", "consolidated.safetensors"}
        self.assertEqual(set(found), (set(self.hub.repos["some/Model"]) - left_out) | {"carat.json"})
        for name in set(found) - {"carat.json"}:
            with open(os.path.join(folder, name), "rb") as f:
                self.assertEqual(f.read(), self.hub.repos["some/Model"][name].data)
        self.assert_whole()
        self.assertEqual(self.names(), ["some/Model:safetensors"])
        self.assert_fails(self.pull("some/Model:Q4_K_M"), 1, "there are: safetensors")

    def test_types_are_known_by_their_names(self):
        cases = [
            ("Q4_K_M", ["gemma-4-12b-it-Q4_K_M.gguf", "gemma-4-12b-it-Q4_K_S.gguf"], 0),
            ("q4_k_s", ["gemma-4-12b-it-Q4_K_M.gguf", "gemma-4-12b-it-Q4_K_S.gguf"], 1),
            ("Q4_0", ["gemma-4-E4B_q4_0-it.gguf", "x-BF16.gguf"], 0),
            ("UD-Q4_K_XL", ["a-UD-Q4_K_XL.gguf", "a-Q4_K_M.gguf"], 0),
            ("F16", ["a.bf16.gguf", "a-F16.gguf"], 1),
            ("Q8_0", ["Q8_0/weights.gguf", "Q6_K/weights-two.gguf"], 0),
            ("one-Q8_0", ["one-Q8_0.gguf", "two-Q8_0.gguf"], 0),
            (None, ["a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-BF16.gguf"], 1),
            (None, ["plain.gguf"], 0),
        ]
        for word, files, which in cases:
            with self.subTest(word=word, files=files):
                self.hub.repos["a/b"] = {name: File(make_gguf("gemma4", 64 + i)) for i, name in enumerate(files)}
                result = self.pull("a/b" + (f":{word}" if word else ""), "--dry-run", "--json")
                self.assertEqual(result.code, 0, result.err)
                self.assertEqual(json.loads(result.out)["files"][0]["name"], os.path.basename(files[which]))
        self.hub.repos["a/b"] = {"one-Q8_0.gguf": File(b"1"), "two-Q8_0.gguf": File(b"2")}
        self.assert_fails(self.pull("a/b:Q8_0"), 1, "a/b:one-Q8_0 or a/b:two-Q8_0")
        self.assert_fails(self.pull("a/b:Q4_0"), 1, "no type 'Q4_0'; there are: Q8_0")

    def test_companions_of_the_right_model(self):
        names = ["E2B-Q8_0.gguf", "12b-Q8_0.gguf", "mmproj-E2B-BF16.gguf", "mmproj-12b-F16.gguf",
                 "mmproj-12b-BF16.gguf", "12b-assistant-Q8_0.gguf", "E2B-assistant-Q8_0.gguf", "imatrix.gguf"]
        self.hub.repos["a/b"] = {n: File(make_gguf("gemma4", 64 + i)) for i, n in enumerate(names)}
        info = json.loads(self.pull("a/b:12b-Q8_0", "--dry-run", "--json").out)
        self.assertEqual([(f["name"], f["role"]) for f in info["files"]],
                         [("12b-Q8_0.gguf", "model"), ("mmproj-12b-BF16.gguf", "projector"),
                          ("12b-assistant-Q8_0.gguf", "drafter")])
        info = json.loads(self.pull("a/b:12b-Q8_0", "--dry-run", "--json", "--no-drafter", "--no-projector").out)
        self.assertEqual(len(info["files"]), 1)

    def test_split_set_comes_whole(self):
        parts = {f"BF16/big-BF16-0000{i}-of-00003.gguf": File(bytes([i]) * 1000) for i in (1, 2, 3)}
        self.hub.repos["a/b"] = parts
        result = self.pull("a/b:BF16")
        self.assertTrue(result.out.endswith("/big-BF16-00001-of-00003.gguf\n"), result.err)
        self.assertEqual(len(self.blobs()), 3)
        del parts["BF16/big-BF16-00002-of-00003.gguf"]
        self.assert_fails(self.pull("a/b:BF16"), 1, "shard 2 of 3")

    def test_new_version_takes_the_old_ones_place(self):
        self.assert_pulled(self.pull(NAME))
        self.hub.repos[REPO]["carat-demo-Q8_0.gguf"] = File(MODEL + bytes(32))
        self.assert_pulled(self.pull(NAME), MODEL + bytes(32))
        self.assertEqual((self.names(), len(self.blobs())), ([NAME], 2))


class Storing(PullTest):
    def test_shared_files_stay_until_nobody_needs_them(self):
        self.pull(NAME)
        self.pull(f"{REPO}:Q4_0")
        self.assertEqual((self.names(), len(self.blobs())), ([f"{REPO}:Q4_0", NAME], 3))
        listed = self.pull("--list")
        self.assertRegex(listed.out, rf"(?m)^{REPO}:Q4_0 .* 2 files")
        self.assertIn("2 models", listed.err)
        self.assert_fails(self.pull("--remove", "carat-demo"), 1, "may mean", ":Q4_0", ":Q8_0")
        self.assert_fails(self.pull("--remove", "carat-demo:Q2_K"), 1, "no such model")
        self.assertEqual(self.pull("--remove", "carat-demo:Q4_0").code, 0)
        self.assertEqual(len(self.blobs()), 2)
        self.assertEqual(carat("inspect", NAME, env=self.env).code, 0)
        self.assertEqual(self.pull("--remove", "carat-demo").code, 0)
        self.assertEqual((self.blobs(), self.names()), ([], []))
        self.assertEqual(os.listdir(os.path.join(self.store, "models")), [])

    def test_one_name_of_two_owners_is_not_guessed(self):
        for owner in ("one", "two"):
            self.hub.repos[f"{owner}/m"] = {"m-Q8_0.gguf": File(make_gguf("gemma4"))}
            self.pull(f"{owner}/m")
        self.assertEqual(len(self.blobs()), 1)
        self.assert_fails(carat("inspect", "m", env=self.env), 1, "one/m:Q8_0", "two/m:Q8_0")
        self.assertEqual(carat("inspect", "one/m", env=self.env).code, 0)

    def test_broken_list_costs_no_files(self):
        path = os.path.dirname(self.pull(NAME).out.strip())
        for text in ("", "{", "[]", '{"repo":"x/y"}', '{"repo":"%s","type":"Q8_0","model":"../../lock",'
                     '"commit":"","files":[]}' % REPO):
            with open(os.path.join(path, "carat.json"), "w", encoding="utf-8") as f:
                f.write(text)
            self.assertEqual(self.names(), [])
            self.assertEqual(self.pull("--clean").code, 0)
            self.assertEqual(len(self.blobs()), 2)
        self.assert_pulled(self.pull(NAME))
        self.assertEqual(self.names(), [NAME])

    def test_unfinished_ones_are_listed_and_cleaned(self):
        self.hub.quirks.drop_after = 700000
        self.assertEqual(self.pull(NAME, "--tries", "1").code, 1)
        self.assertEqual(len(self.blobs(".part")), 1)
        self.assertIn("1 unfinished download", self.pull("--list").err)
        self.assertEqual(self.pull("--clean").code, 0)
        self.assertEqual(os.listdir(os.path.join(self.store, "blobs")), [])

    def test_folders_follow_the_environment(self):
        data = self.path("data")
        result = self.pull(f"{REPO}:Q4_0", CARAT_HOME="", XDG_DATA_HOME=data)
        self.assertTrue(result.out.startswith(f"{data}/carat/models/{REPO}/Q4_0/"), result.err)
        result = self.pull(f"{REPO}:Q4_0", CARAT_HOME="", XDG_DATA_HOME="")
        self.assertTrue(result.out.startswith(f"{self.folder}/.local/share/carat/models/"), result.err)


class Trouble(PullTest):
    def test_cut_connections_are_taken_up(self):
        self.hub.quirks.drop_after = 300000
        result = self.pull(NAME, "--tries", "3")
        self.assert_pulled(result)
        self.assertLess(self.hub.sent, 1.05 * (len(MODEL) + len(PROJECTOR)))

    def test_second_run_fetches_what_is_missing(self):
        self.hub.quirks.drop_after, self.hub.quirks.rate = 900000, 4000000
        result = self.pull(NAME, "--tries", "1")
        self.assertEqual(result.code, 1)
        self.assertRegex(result.err, r"\[[\d.]+ .B of 7.98 MB are kept: the same command goes on")
        self.hub.quirks.drop_after = self.hub.quirks.rate = None
        self.assert_pulled(self.pull(NAME))
        # What a cut connection still held was sent twice.
        self.assertLess(self.hub.sent, 1.05 * (len(MODEL) + len(PROJECTOR)))

    def test_interrupt_keeps_what_came(self):
        self.hub.quirks.rate = 1000000
        running = self.start(NAME)
        self.wait_for_bytes(400000)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
        self.assertEqual((running.returncode, out), (130, b""))
        self.assertIn(b"are kept", err)
        before, self.hub.quirks.rate = self.hub.sent, None
        self.assertGreater(before, 300000)
        self.assert_pulled(self.pull(NAME))
        # What was on its way when the connections were closed may have been sent twice.
        self.assertLess(self.hub.sent, len(MODEL) + len(PROJECTOR) + 1000000)

    def test_each_way_to_misbehave_once_or_twice(self):
        quirks = [
            {"ignore_range": True},
            {"ignore_range": True, "hops": 0},
            {"ignore_range": True, "drop_after": 1000000, "drops": 2},
            {"wrong_bytes": 1},
            {"wrong_bytes": 3},
            {"busy": 2, "busy_status": 429, "retry_after": 1},
            {"busy": 3, "busy_status": 503},
            {"expire": 2},
            {"stall": 1},
            {"hops": 4},
            {"hops": 0},
            {"drop_after": 0, "drops": 3},
            {"drop_after": 90000, "drops": 8},
        ]
        for quirk in quirks:
            with self.subTest(quirk):
                self.env["CARAT_HOME"] = self.store = self.path(f"store{quirks.index(quirk)}")
                self.hub.quirks = type(self.hub.quirks)()
                vars(self.hub.quirks).update(quirk)
                self.assert_pulled(self.pull(NAME, "--patience", "1", "--no-projector"))

    def test_each_way_to_misbehave_always(self):
        quirks = [
            ({"wrong_bytes": True}, "twice the bytes that came were not those that the hub lists"),
            ({"lie_total": 5}, "expected 3628448 bytes, as the hub lists it; the server says 3628453"),
            ({"lie_total": -5}, "the server says 3628443"),
            ({"lie_total": 5, "ignore_range": True}, "the server says 3628453"),
            ({"shift_range": True}, "another part than was asked for"),
            ({"endless": True, "ignore_range": True}, "more than was asked for"),
            ({"hops": 9}, "more than 5 redirects"),
            ({"busy": True}, "/carat-demo-Q8_0.gguf: the server answers 503"),
            ({"expire": True}, "the server answers 403"),
            ({"drop_after": 0}, "carat-demo-Q8_0.gguf"),
        ]
        for quirk, said in quirks:
            with self.subTest(quirk):
                self.hub.quirks = type(self.hub.quirks)()
                vars(self.hub.quirks).update(quirk)
                if "busy" in quirk:  # the API's answer is there before
                    self.hub.quirks.busy, self.hub.answer_api = True, self.answer_calmly
                result = self.pull(NAME, "--tries", "3", "--patience", "2", "--quiet", "--no-projector")
                self.assertEqual((result.code, result.out), (1, ""))
                self.assertIn(said, result.err)
                self.assertNotIn("secret", result.err)
                self.assertEqual(self.names(), [])
                self.assert_whole()
        self.hub.quirks = type(self.hub.quirks)()
        self.assert_pulled(self.pull(NAME))

    def answer_calmly(self, handler, repo, revision):
        with self.hub.lock:
            busy, self.hub.quirks.busy = self.hub.quirks.busy, 0
        Hub.answer_api(self.hub, handler, repo, revision)
        self.hub.quirks.busy = busy

    def test_wrong_bytes_cost_only_their_own_file(self):
        self.pull(NAME, "--no-projector")
        self.hub.quirks.wrong_bytes = True
        result = self.pull(NAME)
        self.assertEqual(result.code, 1)
        self.assertIn("mmproj-carat-demo-BF16.gguf: the checksum is wrong: fetching it again", result.err)
        self.assertIn("the other files are kept", result.err)
        self.assertEqual((len(self.blobs()), self.blobs(".part"), self.names()), (1, [], [NAME]))

    def test_damaged_partial_files_are_noticed(self):
        def damage(name, change):
            path = os.path.join(self.store, "blobs", self.blobs(name)[0])
            with open(path, "r+b") as f:
                data = bytearray(f.read())
                data = change(data)
                f.seek(0)
                f.write(data)
                f.truncate()
        changes = [
            (".part", lambda d: d[:1000]),
            (".part", lambda d: bytearray(len(d))),
            (".journal", lambda d: d[:-7]),
            (".journal", lambda d: b"nonsense" + d),
            (".journal", lambda d: d + b"%020d %020d %016x\n" % (0, len(MODEL), 7)),
            (".journal", lambda d: b""),
        ]
        for i, (name, change) in enumerate(changes):
            with self.subTest(i):
                self.env["CARAT_HOME"] = self.store = self.path(f"store{i}")
                self.hub.quirks.drop_after = 900000
                self.assertEqual(self.pull(NAME, "--tries", "1").code, 1)
                self.hub.quirks.drop_after = None
                damage(name, change)
                self.assert_pulled(self.pull(NAME))

    def test_full_disk_is_seen_before(self):
        row = File(b"x").row("big-Q8_0.gguf")
        row["lfs"]["size"] = 1 << 45
        self.hub.repos["a/b"], self.hub.listed["a/b"] = {}, [row]
        result = self.pull("a/b")
        self.assert_fails(result, 1, "35.2 TB are to be fetched", "are free in", "CARAT_HOME")
        self.assertEqual(self.hub.sent, 0)
        self.assertEqual(self.blobs(".part"), [])

    def test_no_hub_at_all(self):
        self.hub.close()
        self.assert_fails(self.pull(NAME, "--tries", "2"), 1, "/api/models/")
        self.assert_fails(self.pull(NAME, HF_ENDPOINT="ftp://x"), 1, "HF_ENDPOINT")
        self.assert_fails(self.pull(NAME, HF_ENDPOINT="file:///etc"), 1, "HF_ENDPOINT")


class Rights(PullTest):
    def test_token_goes_to_the_hub_alone(self):
        self.hub.quirks.token = "hf_right"
        for where in ("HF_TOKEN", "HF_HOME", "HF_TOKEN_PATH", "home"):
            with self.subTest(where):
                self.env["CARAT_HOME"] = self.store = self.path(f"store-{where}")
                file = self.path("token", "hf_right\n")
                home = self.path(".cache/huggingface/token")
                env = {"HF_TOKEN": "hf_right"} if where == "HF_TOKEN" else {where: file}
                if where == "HF_HOME":
                    env = {"HF_HOME": self.folder}
                if where == "home":
                    os.makedirs(os.path.dirname(home))
                    os.rename(file, home)
                    env = {}
                self.hub.requests.clear()
                self.assert_pulled(self.pull(NAME, **env))
                sent = {name: {h.get("Authorization") for n, _, _, h in self.hub.requests if n == name}
                        for name in ("host", "store")}
                self.assertEqual(sent, {"host": {"Bearer hf_right"}, "store": {None}})

    def test_refusals_say_what_to_do(self):
        cases = [
            ({"refuse": (401, "GatedRepo")}, {}, ["licence", f"{self.hub.url}/{REPO}", "HF_TOKEN"]),
            ({"refuse": (403, "GatedRepo")}, {"HF_TOKEN": "hf_x"}, ["licence", "account"]),
            ({"refuse": (403, None)}, {}, ["licence"]),
            ({"refuse_api": (401, "RepoNotFound")}, {}, ["no such repository", "HF_TOKEN"]),
            ({"refuse_api": (401, "RepoNotFound")}, {"HF_TOKEN": "hf_x"}, ["your token may not see it"]),
            ({"refuse_api": (401, None)}, {"HF_TOKEN": "hf_x"}, ["does not know this token"]),
            ({"refuse_api": (401, None)}, {}, ["needs a token"]),
        ]
        for quirk, env, said in cases:
            with self.subTest(quirk):
                self.hub.quirks = type(self.hub.quirks)()
                vars(self.hub.quirks).update(quirk)
                self.assert_fails(self.pull(NAME, **env), 1, REPO, *said)
        self.hub.quirks = type(self.hub.quirks)()
        self.assert_fails(self.pull("no/where"), 1, "no/where: no such repository")
        self.assert_fails(self.pull(NAME, "--revision", "v 9"), 1, "no revision 'v 9'")
        self.assert_pulled(self.pull(NAME, "--revision", COMMIT))

    def test_token_that_is_none(self):
        for token in ("two words", "a\nX-Evil: 1", "caf\u00e9", "x" * 5000):
            result = self.pull(NAME, HF_TOKEN=token)
            self.assert_fails(result, 1, "HF_TOKEN")
            self.assertNotIn(token, result.err)


@unittest.skipUnless(shutil.which("openssl"), "needs the openssl command, to make certificates")
class Encrypted(PullTest):
    """Over TLS, with certificates that nobody knows."""

    def certificate(self, name, hosts):
        files = self.path(name + ".pem"), self.path(name + ".key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=a hub of tests", "-addext", "subjectAltName=" + hosts, "-out", files[0], "-keyout", files[1]],
                       check=True, capture_output=True)
        return files

    def encrypted_hub(self, hosts="IP:127.0.0.1,DNS:localhost", **options):
        self.files = self.certificate("hub", hosts)
        hub = Hub(self.files, **options)
        self.addCleanup(hub.close)
        hub.repos = self.hub.repos
        self.env.update({"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_right", "SSL_CERT_FILE": "", "CURL_CA_BUNDLE": ""})
        hub.quirks.token = "hf_right"
        return hub

    def refused(self, hub, *words, **env):
        result = self.pull(NAME, "--tries", "3", "--quiet", **env)
        self.assert_fails(result, 1, *words)
        self.assertNotIn("hf_right", result.err)
        self.assertEqual(self.blobs(), [])
        self.assertEqual([r for r in hub.requests if r[0] == "store"], [])
        return result

    def test_who_is_not_known_gets_nothing(self):
        hub = self.encrypted_hub()
        self.refused(hub, "certificate")
        others, _ = self.certificate("other", "DNS:other")
        for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
            self.refused(hub, "certificate", **{name: others})
            self.refused(hub, "certificate", **{name: self.path("none.pem")})
        self.assertEqual(hub.requests, [])

    def test_a_certificate_of_another_name(self):
        hub = self.encrypted_hub("DNS:hub.example")
        self.refused(hub, "certificate", SSL_CERT_FILE=self.files[0])
        self.assertEqual(hub.requests, [])

    def test_who_is_named_is_believed(self):
        hub = self.encrypted_hub()
        for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
            self.env["CARAT_HOME"] = self.store = self.path("store-" + name)
            self.assert_pulled(self.pull(NAME, **{name: self.files[0]}))
        told = {host: {"Authorization" in headers for h, _, _, headers in hub.requests if h == host} for host in ("host", "store")}
        self.assertEqual(told, {"host": {True}, "store": {False}})

    def test_nothing_goes_on_unencrypted(self):
        hub = self.encrypted_hub(is_store_plain=True)
        self.refused(hub, "not encrypted", SSL_CERT_FILE=self.files[0])


class Hostile(PullTest):
    def test_names_lead_nowhere_else(self):
        bad = ["../evil-Q8_0.gguf", "/etc/evil-Q8_0.gguf", "a/../../evil-Q8_0.gguf", "a\\..\\evil-Q8_0.gguf",
               "./evil-Q8_0.gguf", "a//evil-Q8_0.gguf", "..", "", "evil\n-Q8_0.gguf", ".evil-Q8_0.gguf",
               "carat.json", "x" * 2000 + "-Q8_0.gguf", "-evil-Q8_0.gguf", "evil-Q8_0.gguf\0"]
        good = File(make_gguf("gemma4"))
        rows = [good.row(name) for name in bad]
        rows += [{**good.row("a-Q6_K.gguf"), "lfs": lfs} for lfs in (
            {"sha256": "../../../../x", "size": 1}, {"sha256": "A" * 64, "size": 1}, {"sha256": good.sha256, "size": -1},
            {"sha256": good.sha256, "size": 1e99}, {"sha256": good.sha256, "size": 1 << 60}, {"size": 1}, {})]
        rows += [None, 7, [], {"rfilename": 3}, {"rfilename": "b-Q5_K.gguf", "blobId": "x", "size": 3}]
        self.hub.repos["a/b"], self.hub.listed["a/b"] = {"fine-Q8_0.gguf": good}, rows
        self.assert_fails(self.pull("a/b"), 1, "holds no model that carat reads")
        rows.append(good.row("fine-Q8_0.gguf"))
        self.assertEqual(self.pull("a/b").code, 0)
        found = sorted(os.path.join(f, n) for f, _, ns in os.walk(self.folder) for n in ns)
        folder = os.path.join(self.store, "models", "a", "b", "Q8_0")
        self.assertEqual(found, sorted([os.path.join(folder, "carat.json"), os.path.join(folder, "fine-Q8_0.gguf"),
                                        os.path.join(self.store, "blobs", f"sha256-{good.sha256}"),
                                        os.path.join(self.store, "lock")]))

    def test_answers_that_are_none(self):
        for text in (b"", b"<html>", b"[]", b"{}", b'{"sha":"x","siblings":[]}', b'{"sha":"%s","siblings":{}}' % (b"1" * 40),
                     b'{"siblings":[]}', b"[" * 5000, b'{"sha":"%s","siblings":[]}' % (b"1" * 40),
                     b'{"sha":"%s","siblings":[' % (b"1" * 40) + b"1," * 200000 + b"1]}"):
            with self.subTest(text[:40]):
                self.hub.quirks.api_text = text
                self.assert_fails(self.pull("tiny/carat-demo-GGUF"), 1)

    def test_words_that_are_no_repository(self):
        for word in ("gemma", "a/b/c", "../b", "a/b:", "a/b:../c", "https://x/y", "a/b?c"):
            with self.subTest(word):
                self.assert_fails(self.pull(word), 1, "OWNER/REPO")
        self.assertEqual(self.hub.requests, [])

    def test_usage(self):
        for words in ([], ["--list", "x/y"], ["--list", "--clean"], ["--parallel", "0", "x/y"], ["--patience", "x"]):
            self.assert_fails(self.pull(*words), 2, "pull" if not words or "-" not in words[0] else "")


class Crashes(PullTest):
    def test_killed_fifty_times_nothing_is_lost_or_wrong(self):
        draw = random.Random(7)
        self.hub.quirks.rate = 3000000
        begun = time.monotonic()
        self.pull("--list")
        longest = 0.25 + 2 * (time.monotonic() - begun)  # starting takes most of it
        n_resumed = 0
        for _ in range(50):
            running = self.start(NAME)
            time.sleep(draw.uniform(0.005, longest))
            running.kill()
            running.communicate(timeout=60)
            self.assert_whole()
            n_resumed += bool(self.blobs(".journal"))
            if running.returncode == 0:  # it was faster: from the beginning
                self.assertEqual(self.pull("--remove", NAME).code, 0)
        self.hub.quirks.rate = None
        self.assert_pulled(self.pull(NAME))
        self.assertEqual(self.names(), [NAME])
        self.assertEqual(len(self.blobs()), 2)
        self.assertEqual(self.blobs(".part") + self.blobs(".journal"), [])
        self.assertGreater(n_resumed, 0)
        self.assertEqual(self.pull("--remove", NAME).code, 0)
        self.assertEqual(os.listdir(os.path.join(self.store, "blobs")), [])
        self.assertEqual(os.listdir(os.path.join(self.store, "models")), [])

    def test_two_at_once_fetch_one_file_once(self):
        self.hub.quirks.rate = 2000000
        both = [self.start(NAME), self.start(NAME)]
        said = [p.communicate(timeout=120) for p in both]
        self.assertEqual([p.returncode for p in both], [0, 0], said)
        self.assertEqual(said[0][0], said[1][0])
        self.assertTrue(any(b"waiting for it" in err for _, err in said), said)
        self.assert_whole()
        self.assertLess(self.hub.sent, len(MODEL) + len(PROJECTOR) + 1000)
        self.assertEqual((self.names(), self.blobs(".lock")), ([NAME], []))

    def test_removing_while_another_pull_runs_takes_nothing_from_it(self):
        self.pull(f"{REPO}:Q4_0")  # its projector is shared
        self.hub.quirks.rate = 1500000
        before = self.hub.sent
        running = self.start(NAME)
        self.wait_for_bytes(before + 100000)
        removed = self.pull("--remove", f"{REPO}:Q4_0")
        self.assertEqual(removed.code, 0)
        self.assertIn("another carat pull is running", removed.err)
        self.assert_fails(self.pull("--clean"), 1, "another carat pull is running")
        running.communicate(timeout=60)
        self.assertEqual(running.returncode, 0)
        self.assert_whole()
        self.assertEqual((self.names(), len(self.blobs())), ([NAME], 2))


if __name__ == "__main__":
    unittest.main()
