# SPDX-License-Identifier: Apache-2.0
"""carat batch: the answers are those of the server, each line gets one, whatever happens."""
import base64
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest
import urllib.parse

from common import CARAT, DEMO, CommandTest, Terminal, carat

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "server"))
from harness import Server  # noqa: E402

# A build without these has less to compare.
CAN_SERVE = os.environ.get("CARAT_CAN_SERVE", "1") == "1"
EVAL = os.path.join(os.path.dirname(DEMO), "eval")
HAS_FFMPEG = "FFmpeg" not in carat("run", "--image", os.path.join(EVAL, "image_000.png"), "--max-tokens", "1", "x").err
KILLS = 50
# Of an answer, what is made up anew each time, or tells how it was come by.
PASSING = {"id", "created", "created_at", "completed_at", "request_id", "call_id", "item_id",
           "cached_tokens", "timings"}
TOOLS = [{"type": "function", "function": {
    "name": "add", "description": "Add two numbers.", "parameters": {
        "type": "object", "required": ["a", "b"],
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "description": "Second number."}}}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "shape", "schema": {
    "type": "object", "additionalProperties": False, "required": ["colour", "sides"],
    "properties": {"colour": {"enum": ["red", "blue"]}, "sides": {"type": "integer", "minimum": 3, "maximum": 9}}}}}


def chat(content, **more):
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 60, **more}


def part(kind, url):
    return {"type": kind, kind: {"url": url}}


def lasting(value):
    """Without what differs from one time to the next."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in PASSING}
    return [lasting(v) for v in value] if isinstance(value, (list, tuple)) else value


CHAT, TEXT, EMBED, RESPONSES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                "/v1/responses")


def requests(n):
    """Small requests of many kinds."""
    made = []
    for i in range(n):
        kind = i % 8
        if kind == 0:
            made.append((CHAT, chat(f"What is {i % 9 + 1} plus {i % 7 + 2}?")))
        elif kind == 1:
            made.append((CHAT, chat(f"Repeat: door {i}", temperature=1, seed=i + 1, max_tokens=12)))
        elif kind == 2:
            made.append((CHAT, chat("What is 3 plus 4?", tools=TOOLS)))
        elif kind == 3:
            made.append((TEXT, {"prompt": f"Hello {i}", "temperature": 0, "max_tokens": 6}))
        elif kind == 4:
            made.append((EMBED, {"input": [f"text {i}", "another"]}))
        elif kind == 5:
            made.append((RESPONSES, {"input": f"What is {i % 5 + 2} plus 2?", "temperature": 0, "max_output_tokens": 16}))
        elif kind == 6:
            made.append((CHAT, chat([part("image_url", f"picture_{i % 20}.ppm"),
                                     {"type": "text", "text": "Describe the picture."}])))
        else:
            made.append((CHAT, chat("Hello", temperature=9)))  # refused
    return made


def line(custom_id, url, body):
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


class BatchTest(CommandTest):
    def write(self, made, name="in.jsonl"):
        """An input; what is no pair of url and body stands there as it is."""
        lines = [m if isinstance(m, str) else line(f"r{i}", *m) for i, m in enumerate(made)]
        return self.path(name, "".join(text + "\n" for text in lines))

    def batch(self, *words, **more):
        return carat("batch", DEMO, self.path("in.jsonl"), self.path("out.jsonl"), *words, **more)

    def start(self, *words, out="out.jsonl"):
        return subprocess.Popen([CARAT, "batch", DEMO, self.path("in.jsonl"), self.path(out), *words],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def lines(self, name="out.jsonl"):
        with open(self.path(name), encoding="utf-8") as f:
            text = f.read()
        self.assertTrue(not text or text.endswith("\n"))
        return [json.loads(row) for row in text.splitlines()]

    def answers(self, name="out.jsonl"):
        """By custom_id, and each once."""
        found = self.lines(name)
        for answer in found:
            self.assertEqual(list(answer), ["id", "custom_id", "response", "error"])
            self.assertTrue((answer["response"] is None) != (answer["error"] is None))
        by_id = {a["custom_id"]: (a["response"], a["error"]) for a in found}
        self.assertEqual(len(by_id), len(found), "a line was answered twice")
        return by_id

    def beside(self, *names):
        for name in names:
            shutil.copy(os.path.join(EVAL, name), self.path(name))

    def pictures(self):
        for i in range(20):
            colour = bytes((i * 12 % 256, i * 70 % 256, 255 - i * 12))
            self.path(f"picture_{i}.ppm", b"P6\n48 48\n255\n" + colour * (48 * 48))


class Answers(BatchTest):
    @unittest.skipUnless(CAN_SERVE, "a build without a server")
    def test_answers_are_those_of_the_server(self):
        self.beside("audio_000.wav", "image_001.png", "video_000.mp4")
        os.mkdir(self.path("a folder"))
        shutil.copy(self.path("image_001.png"), self.path("a folder/blue+1.png"))

        def data(name, mime):
            with open(os.path.join(EVAL, name), "rb") as f:
                return f"data:{mime};base64," + base64.b64encode(f.read()).decode()

        sound, film, second = data("audio_000.wav", "audio/wav"), data("video_000.mp4", "video/mp4"), data("image_001.png", "image/png")
        hear = {"type": "text", "text": "What do you hear?"}
        see = {"type": "text", "text": "What do you see?"}

        def heard(address):
            return {"type": "input_audio", "input_audio": {"data": address, "format": "wav"}}

        absolute = "file://" + urllib.parse.quote(self.path("a folder/blue+1.png"))
        by_path = [
            (CHAT, chat([part("image_url", "a folder/blue+1.png"), see]), chat([part("image_url", second), see])),
            (CHAT, chat([part("image_url", "file:a%20folder/blue+1.png"), see]), chat([part("image_url", second), see])),
            (CHAT, chat([part("image_url", absolute), see]), chat([part("image_url", second), see])),
            (CHAT, chat([part("image_url", self.path("a folder/blue+1.png")), see]), chat([part("image_url", second), see])),
            (CHAT, chat([part("image_url", second), see]), chat([part("image_url", second), see])),
            (CHAT, chat([heard("audio_000.wav"), hear]), chat([heard(sound), hear])),
            (CHAT, chat([heard(sound.partition(",")[2]), hear]), chat([heard(sound), hear])),
            (CHAT, chat([part("audio_url", "./audio_000.wav"), hear]), chat([heard(sound), hear])),
            (CHAT, chat([part("video_url", "video_000.mp4"), {"type": "text", "text": "Which way does the shape move?"}]),
             chat([part("video_url", film), {"type": "text", "text": "Which way does the shape move?"}])),
            (RESPONSES, {"temperature": 0, "input": [{"role": "user", "content": [
                {"type": "input_image", "image_url": "image_001.png"}, {"type": "input_text", "text": "What do you see?"}]}]},
             {"temperature": 0, "input": [{"role": "user", "content": [
                 {"type": "input_image", "image_url": second}, {"type": "input_text", "text": "What do you see?"}]}]}),
        ]
        others = [
            (CHAT, chat("What is 2 plus 3?", tools=TOOLS)),
            (CHAT, chat("Think of a shape.", response_format=SCHEMA, temperature=1, seed=5)),
            (CHAT, chat("Hello", temperature=1, seed=7, n=3, logprobs=True, top_logprobs=2)),
            (CHAT, chat("What is 8 plus 2?", reasoning_effort="high")),
            (CHAT, chat("Hello" * 20000)),  # too long
            (CHAT, {"messages": []}),
            (TEXT, {"prompt": ["One", "Two"], "temperature": 1, "seed": 3, "max_tokens": 8, "echo": True}),
            (EMBED, {"input": ["a text", "b"], "encoding_format": "base64"}),
            (EMBED, {"input": "a text"}),
            (RESPONSES, {"input": "Hello", "temperature": 1, "seed": 4}),
            (RESPONSES, {"input": "again", "previous_response_id": "resp_none"}),
        ]
        expected = [(url, body) for url, _, body in by_path] + others
        self.write([(url, body) for url, body, _ in by_path] + others)
        result = self.batch("--parallel", "3", "--context", "4096")
        self.assertEqual(result.code, 1, result.err)  # three of them are refused
        got = self.answers()
        self.assertEqual(len(got), len(expected))
        with Server(["--context", "4096"]) as server:
            for i, (url, body) in enumerate(expected):
                response, error = got[f"r{i}"]
                self.assertIsNone(error)
                status, _, text = server.request(url, body)
                with self.subTest(request=i):
                    self.assertEqual(response["status_code"], status)
                    self.assertEqual(lasting(response["body"]), lasting(json.loads(text)))
            # Only here may a request name files.
            status, _, text = server.request(CHAT, by_path[0][1])
            self.assertEqual(status, 400)
            self.assertIn(b"expected data:", text)
            self.assertEqual(server.request(CHAT, by_path[1][1])[0], 400)
            self.assertEqual(server.request(CHAT, by_path[5][1])[0], 400)
        self.assertIn("open door", got["r5"][0]["body"]["choices"][0]["message"]["content"])
        if HAS_FFMPEG:
            self.assertIn("red triangle moves", got["r8"][0]["body"]["choices"][0]["message"]["content"])
        self.assertEqual(got["r10"][0]["body"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "add")
        self.assertIn(json.loads(got["r11"][0]["body"]["choices"][0]["message"]["content"])["colour"], ("red", "blue"))
        self.assertEqual([got[f"r{i}"][0]["status_code"] for i in (14, 15, 20)], [400, 400, 400])

    def test_order_and_company_do_not_matter(self):
        self.pictures()
        made = requests(48)
        self.write(made)
        self.batch("--parallel", "1", "--workers", "1")
        alone = lasting(self.answers())
        texts = [line(f"r{i}", *m) for i, m in enumerate(made)]
        random.Random(1).shuffle(texts)
        self.write(texts)
        self.batch("--parallel", "7", "--restart")
        self.assertEqual(lasting(self.answers()), alone)

    def test_shards_are_the_whole(self):
        self.pictures()
        self.write(requests(30))
        self.batch()
        whole = lasting(self.answers())
        union, inputs = {}, set()
        for i in range(4):
            done = carat("batch", DEMO, self.path("in.jsonl"), self.path(f"{i}.jsonl"), "--shard", f"{i}/4", "--json")
            self.assertEqual(json.loads(done.out)["requests"], [7, 8, 8, 7][i])
            some = self.answers(f"{i}.jsonl")
            self.assertFalse(union.keys() & some.keys())
            union.update(some)
            for answer in self.lines(f"{i}.jsonl"):
                number = int(answer["id"].split("_")[2])
                self.assertEqual(number % 4, i)
                self.assertEqual(answer["custom_id"], f"r{number - 1}")
                inputs.add(number)
        self.assertEqual(inputs, set(range(1, 31)))
        self.assertEqual(lasting(union), whole)
        for wrong in ("4/4", "1", "1/", "/2", "-1/2", "0/0", "a/b", "1/2/3"):
            self.assert_fails(self.batch("--shard", wrong), 2, "--shard", wrong)

    def test_streams_are_answered_whole(self):
        self.write([(CHAT, chat("Hello", stream=True, stream_options={"include_usage": True})), (CHAT, chat("Hello"))])
        self.assertEqual(self.batch().code, 0)
        got = lasting(self.answers())
        self.assertEqual(got["r0"], got["r1"])

    def test_defaults_of_requests(self):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 30}
        self.write([(CHAT, {**body, "temperature": 1, "seed": 11}), (CHAT, body)])
        self.assertEqual(self.batch("--seed", "11", "--temperature", "1").code, 0)
        got = lasting(self.answers())
        self.assertEqual(got["r0"], got["r1"])


class Requests(BatchTest):
    def test_bad_lines_are_answered_with_their_number(self):
        good = line("good", CHAT, chat("Hello"))
        rows = [
            ("{no json", None, "not JSON"),
            ("", None, None),
            ("[1]", None, "expected a JSON object, found"),
            (json.dumps({"url": CHAT, "body": {}}), None, "custom_id: expected a string"),
            (json.dumps({"custom_id": 7, "url": CHAT, "body": {}}), None, "custom_id: expected a string"),
            (json.dumps({"custom_id": "x" * 5000, "url": CHAT, "body": {}}), None, "at most 4096 bytes"),
            (json.dumps({"custom_id": "get", "method": "GET", "url": CHAT, "body": {}}), "get", "method: expected"),
            (line("url", "/v1/models", {}), "url", "url: expected /v1/chat/completions"),
            (line("body", CHAT, [1]), "body", "body: expected a JSON object"),
            (line("long", CHAT, chat("x" * 70000)), None, "longer than 60000 bytes"),
            ("\ufeff" + good, None, "not JSON"),
            (" \t\r", None, None),
            ("\x00" * 5, None, "not JSON"),
            (line('quote"\n\u00e9', CHAT, []), 'quote"\n\u00e9', "body: expected"),
            ("[" * 100000, None, "longer"),
            ("[" * 2000 + "]" * 2000, None, "deep"),
        ]
        self.write([good] + [row[0] for row in rows])
        result = self.batch("--line-max", "0.06")
        self.assertEqual(result.code, 1, result.err)
        got = {int(a["id"].split("_")[2]): a for a in self.lines()}
        expected = {i + 2: row for i, row in enumerate(rows) if row[2]}
        self.assertEqual(set(got), {1} | set(expected))
        self.assertEqual(got[1]["response"]["status_code"], 200)
        for number, (_, custom_id, message) in expected.items():
            with self.subTest(line=number):
                self.assertIsNone(got[number]["response"])
                self.assertEqual(got[number]["custom_id"], custom_id)
                self.assertEqual(got[number]["error"]["code"], "invalid_request")
                self.assertTrue(got[number]["error"]["message"].startswith(f"line {number}: "))
                self.assertIn(message, got[number]["error"]["message"])
                self.assertIn(f"in.jsonl: line {number}: ", result.err)
        self.assertEqual(self.batch("--line-max", "0.06").code, 1)  # it was so before
        self.assertEqual(len(self.lines()), len(expected) + 1)

    def test_files_that_are_not_there_are_the_requests_fault(self):
        os.mkfifo(self.path("pipe.png"))
        self.path("empty.png", b"")
        names = ["none.png", "file:none.png", ".", "pipe.png", "empty.png", "file:", "/dev/zero", "ftp://a/b.png",
                 "http://127.0.0.1/a.png", "x" * 5000, "a%00b.png\x00"]
        self.write([(CHAT, chat([part("image_url", name)])) for name in names])
        result = self.batch()
        self.assertEqual(result.code, 1)
        for i, (response, error) in ((i, self.answers()[f"r{i}"]) for i in range(len(names))):
            with self.subTest(name=names[i][:20]):
                self.assertIsNone(error)
                self.assertEqual(response["status_code"], 400, response)
                self.assertIn("image_url", response["body"]["error"]["message"])

    def test_custom_ids_that_occur_twice_are_refused_before_anything_is_done(self):
        hello = chat("Hello")
        self.write([line("a", CHAT, hello), line("b", CHAT, hello), line("a", CHAT, hello), "", line("\u0062", CHAT, hello)])
        self.assert_fails(self.batch(), 2, "custom_id", "1 and 3", "2 and 5")
        self.assertFalse(os.path.exists(self.path("out.jsonl")))
        # In every shard, even where it has only one of them.
        self.assert_fails(self.batch("--shard", "1/2"), 2, "custom_id", "2 and 5")

    def test_command_line(self):
        self.write([(CHAT, chat("Hello"))])
        self.assert_fails(carat("batch"), 2, "IN.jsonl OUT.jsonl")
        self.assert_fails(carat("batch", self.path("in.jsonl")), 2, "IN.jsonl OUT.jsonl")
        self.assert_fails(self.batch("--retry", "--restart"), 2, "--retry")
        self.assert_fails(carat("batch", DEMO, self.path("none"), self.path("out.jsonl")), 1, "none")
        self.assert_fails(carat("batch", DEMO, self.folder, self.path("out.jsonl")), 1, "expected a file")
        self.assert_fails(carat("batch", DEMO, self.path("in.jsonl"), self.path("no/out.jsonl")), 1, "out.jsonl")
        self.assert_fails(carat("batch", self.path("none.gguf"), self.path("in.jsonl"), self.path("out.jsonl")), 1, "none.gguf")
        os.symlink(self.path("in.jsonl"), self.path("link"))
        self.assert_fails(carat("batch", DEMO, self.path("in.jsonl"), self.path("link")), 2, "same file")
        # Without a model's name, in the folder of the input.
        done = subprocess.run([CARAT, "batch", "in.jsonl", "out.jsonl", "--quiet"], cwd=self.folder,
                              capture_output=True, timeout=120)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        self.assertFalse(os.path.exists(self.path("out.jsonl.lock")))

    def test_figures(self):
        self.pictures()
        self.write(requests(16))
        result = self.batch("--json")
        figures = json.loads(result.out)
        self.assertEqual({k: figures[k] for k in ("requests", "answered", "answered_before", "failed", "interrupted")},
                         {"requests": 16, "answered": 16, "answered_before": 0, "failed": 2, "interrupted": False})
        usages = [a["response"]["body"]["usage"] for a in self.lines() if a["response"]["status_code"] == 200]
        self.assertEqual(figures["prompt_tokens"],
                         sum(u.get("prompt_tokens", u.get("input_tokens")) for u in usages))
        self.assertEqual(figures["answer_tokens"],
                         sum(u.get("completion_tokens", u.get("output_tokens", 0)) for u in usages))
        again = json.loads(self.batch("--json").out)
        self.assertEqual((again["answered"], again["answered_before"], again["failed"], again["answer_tokens"]), (16, 16, 2, 0))


class Past(BatchTest):
    def setUp(self):
        super().setUp()
        self.pictures()
        self.made = requests(16)
        self.write(self.made)

    def whole(self):
        self.batch()
        with open(self.path("out.jsonl"), "rb") as f:
            return f.read()

    def test_torn_line_is_answered_again(self):
        data = self.whole()
        expected = lasting(self.answers())
        ends = [i + 1 for i, c in enumerate(data) if c == 10]
        for cut in (0, 1, 7, ends[0] - 1, ends[0], ends[0] + 30, ends[7] + 3, len(data) - 1):
            with self.subTest(cut=cut):
                kept = data[:cut]
                self.path("out.jsonl", kept)
                self.batch()
                n = kept.rfind(b"\n") + 1
                with open(self.path("out.jsonl"), "rb") as f:
                    self.assertEqual(f.read()[:n], data[:n], "what was answered is no longer the same")
                self.assertEqual(lasting(self.answers()), expected)
        self.path("out.jsonl", data[:ends[3]] + bytes(500))  # as some file systems leave it
        self.assertIn("written to its end", self.batch().err)
        self.assertEqual(lasting(self.answers()), expected)

    def test_edited_input_is_noticed(self):
        data = self.whole()
        texts = [line(f"r{i}", *m) for i, m in enumerate(self.made)]
        edited = texts[:]
        edited[4] = line("r4", EMBED, {"input": "something else"})
        # In order of completion, so that which lines are named is not always the same.
        for some, words in ((edited, "already: 5."), (texts[:9] + texts[10:], "and 2 more"),
                            (texts[:-1], "already: 16."), ([""] + texts, "and 11 more")):
            self.write(some)
            self.assert_fails(self.batch(), 2, "has changed", words)
            with open(self.path("out.jsonl"), "rb") as f:
                self.assertEqual(f.read(), data)
        self.write(edited)
        self.assertEqual(json.loads(self.batch("--restart", "--json").out)["answered_before"], 0)
        self.assertEqual(len(self.answers()), 16)
        # What is not answered yet may change, and lines may be added.
        first = self.lines()[:4]
        self.path("out.jsonl", "".join(json.dumps(a, separators=(",", ":")) + "\n" for a in first))
        done = {int(a["id"].split("_")[2]) - 1 for a in first}
        self.write([text if i in done else line(f"later {i}", TEXT, {"prompt": "later", "max_tokens": 3})
                    for i, text in enumerate(edited)] + [line("more", TEXT, {"prompt": "more", "max_tokens": 3})])
        self.assertEqual(self.batch().code, 1 if any(i % 8 == 7 for i in done) else 0)
        self.assertEqual(len(self.answers()), 17)
        self.assertIn("more", self.answers())

    def test_other_files_are_left_alone(self):
        for text in ("hello", "hello\n", '{"id":"chatcmpl-1"}\n', line("a", CHAT, {}) + "\n", "\n",
                     '{"id":"batch_req_1_zz","error":null}\n', '{"id":"other'):
            self.path("out.jsonl", text)
            for words in ((), ("--restart",), ("--retry",)):
                self.assert_fails(self.batch(*words), 2, "out.jsonl: line 1 is no answer of a batch")
            with open(self.path("out.jsonl"), encoding="utf-8") as f:
                self.assertEqual(f.read(), text)
        self.assertEqual(sorted(n for n in os.listdir(self.folder) if "out.jsonl" in n), ["out.jsonl"])

    def test_retry_answers_what_failed(self):
        missing = chat([part("image_url", "later.ppm"), {"type": "text", "text": "Describe the picture."}])
        self.write([(CHAT, chat("Hello")), (CHAT, missing), "{", (CHAT, chat("Hello", seed=2))])
        self.assertEqual(self.batch().code, 1)
        before = self.answers()
        self.assertEqual(before["r1"][0]["status_code"], 400)
        shutil.copy(self.path("picture_0.ppm"), self.path("later.ppm"))
        figures = json.loads(self.batch("--json").out)
        self.assertEqual((figures["failed"], figures["answered_before"]), (2, 4))
        figures = json.loads(self.batch("--json", "--retry").out)
        self.assertEqual((figures["failed"], figures["answered_before"]), (1, 2))
        after = self.answers()
        self.assertEqual(after["r1"][0]["status_code"], 200)
        self.assertEqual({k: after[k] for k in ("r0", "r3")}, {k: before[k] for k in ("r0", "r3")})

    def test_one_writer_at_a_time(self):
        self.write(requests(400))
        first = self.start()
        try:
            end = time.monotonic() + 60
            while not (os.path.exists(self.path("out.jsonl")) and os.path.getsize(self.path("out.jsonl"))):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)
            first.send_signal(signal.SIGSTOP)
            self.assert_fails(self.batch(), 2, "another batch is writing there")
        finally:
            first.kill()
            first.communicate()

    def test_full_disk_keeps_whole_lines(self):
        """Once there is room again, it goes on. Answers that are all short: which comes first is open."""
        self.write([(CHAT, chat(f"What is {i} plus {i}?")) for i in range(16)])

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        full = subprocess.run([CARAT, "batch", DEMO, self.path("in.jsonl"), self.path("out.jsonl"), "--quiet"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120, preexec_fn=limit,
                              restore_signals=False)  # which leaves that of the limit ignored
        self.assertEqual(full.returncode, 1, full.stderr)
        self.assertIn(b"out.jsonl: cannot be written: ", full.stderr)
        self.assertGreater(len(self.answers()), 0)
        self.assertLess(len(self.answers()), 16)
        self.batch()
        self.assertEqual(len(self.answers()), 16)


class Interrupted(BatchTest):
    def setUp(self):
        super().setUp()
        self.pictures()

    def wait_for_answers(self, process, n=1):
        end = time.monotonic() + 60
        while True:
            if os.path.exists(self.path("out.jsonl")):
                with open(self.path("out.jsonl"), "rb") as f:
                    if f.read().count(b"\n") >= n:
                        return
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(process.poll())
            time.sleep(0.005)

    def test_signals_let_running_requests_end(self):
        self.write(requests(600))
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("--json")
            self.wait_for_answers(process)
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 130, err)
            figures = json.loads(out)
            self.assertTrue(figures["interrupted"])
            self.assertEqual(figures["answered"], len(self.answers()))
            self.assertLess(figures["answered"], 600)
            self.assertFalse(any(r and r["status_code"] == 503 for r, _ in self.answers().values()))
            os.remove(self.path("out.jsonl"))
        self.assertIn(b"Ctrl-C again", err)

    def test_second_one_stops_at_once(self):
        endless = chat("Hello", max_tokens=8000, min_tokens=8000, temperature=2, seed=1, ignore_eos=True)
        self.write([(CHAT, chat("Hello"))] + [(CHAT, endless)] * 20)
        process = self.start("--no-loop-guard")
        self.wait_for_answers(process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)

    def test_progress_on_a_terminal(self):
        self.write(requests(600))
        terminal = Terminal("batch", DEMO, self.path("in.jsonl"), self.path("out.jsonl"))
        terminal.wait_for(r"\d+ of 600 answered, \d+ failed, \d+ tokens/s, 0:00:\d\d left")
        terminal.send("\x03")
        terminal.wait_for("the same command goes on from here")
        self.assertIn("130", str(terminal.exit_code()))

    def test_killed_at_any_moment(self):
        """Every line is answered once, and as if nothing had happened."""
        made = requests(120)
        self.write(made)
        begun = time.monotonic()
        whole = self.start(out="whole.jsonl")
        whole.communicate(timeout=300)
        self.assertEqual(whole.returncode, 1)
        seconds = time.monotonic() - begun
        expected = lasting(self.answers("whole.jsonl"))
        self.assertEqual(len(expected), 120)
        chance = random.Random(7)
        kills = finished = 0
        seen = b""
        while kills < KILLS or not finished:
            process = self.start("--quiet")
            try:
                process.wait(timeout=chance.uniform(0, 0.7 * seconds) if kills < KILLS else 300)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            killed = process.returncode == -signal.SIGKILL
            kills += killed
            with open(self.path("out.jsonl"), "rb") if os.path.exists(self.path("out.jsonl")) else open(os.devnull, "rb") as f:
                data = f.read()
            self.assertTrue(data.startswith(seen), "an answer that was there is gone")
            seen = data[:data.rfind(b"\n") + 1]
            if not killed:
                self.assertEqual(process.returncode, 1)
                self.assertEqual(lasting(self.answers()), expected)
                finished += 1
                if kills < KILLS:
                    os.remove(self.path("out.jsonl"))
                    seen = b""
        self.assertGreaterEqual(kills, KILLS)


@unittest.skipIf(CAN_SERVE, "a build with a server")
class NoServer(CommandTest):
    def test_serve_says_so_whatever_it_is_asked(self):
        for args in ((), (DEMO, "--port", "0"), ("--api-key", "x", "a", "b", "c", "-x")):
            done = carat("serve", *args)
            self.assertEqual(done.code, 1)
            self.assertIn("this build has no server", done.err)


if __name__ == "__main__":
    unittest.main()
