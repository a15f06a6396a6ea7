# SPDX-License-Identifier: Apache-2.0
"""Media are decoded in processes of their own: what happens to these costs one request, and they
end with their server however that ends."""
import base64
import contextlib
import http.client
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib

import material
from harness import CARAT, DEMO, PATIENCE, Server
from test_serve import endless, long

CHAT = "/v1/chat/completions"
SANITIZED = os.environ.get("CARAT_SANITIZE", "none") != "none"
DECODER = "decode-media"


def part(kind, data):
    data = base64.b64encode(data).decode("ascii")
    if kind == "input_audio":
        return {"type": kind, kind: {"data": data, "format": "wav"}}
    return {"type": kind, kind: {"url": "data:application/octet-stream;base64," + data}}


def question(kind, data, text, **more):
    return {"model": "m", "temperature": 0, "max_tokens": 32, **more,
            "messages": [{"role": "user", "content": [part(kind, data), {"type": "text", "text": text}]}]}


def picture(material_row=material.PICTURE, **more):
    name, text, _ = material_row
    return question("image_url", material.read(name), text, **more)


def png(width, height, rows=None):
    """A gray PNG of these sides, all black unless there are rows."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    packed = zlib.compressobj(9)
    body = b"".join(packed.compress(bytes(width + 1)) for _ in range(height)) if rows is None else \
        packed.compress(rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", body + packed.flush()) + chunk(b"IEND", b""))


def children(pid):
    """The processes whose parent this is: their numbers and states."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                    fields = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found[int(name)] = fields[0]
    return found


def state(pid):
    """The letter that /proc has for it; Z also for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def content(path):
    with open(path, "rb") as f:
        return f.read()


def eventually(check, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"{check} never held")
        time.sleep(0.01)


def metrics(server):
    """Media by outcome, and processes started."""
    text = server.request("/metrics")[2].decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("carat_media_total"):
            found[line.partition('outcome="')[2].partition('"')[0]] = int(line.split()[-1])
        elif line.startswith("carat_media_running"):
            found["running"] = int(float(line.split()[-1]))
        elif line.startswith("carat_decoders_started_total"):
            found["started"] = int(float(line.split()[-1]))
    return found


class Decoder(unittest.TestCase):
    args = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(["--workers", "2", *cls.args])

    @classmethod
    def tearDownClass(cls):
        pid = cls.server.process.pid
        left = children(pid)
        cls.server.stop()
        for child in left:  # nothing outlives a server that ends as it should
            eventually(lambda child=child: state(child) == "Z")

    def ask(self, body, status=200):
        return self.server.json(CHAT, body, status)

    def expect_answer(self, row=material.PICTURE):
        answer = self.ask(picture(row))
        self.assertEqual(answer["choices"][0]["message"]["content"], row[2])
        return answer

    def decoder(self):
        """The one that the next picture goes to."""
        self.expect_answer()
        pids = children(self.server.process.pid)
        while len(pids) != 1:  # there may be one for each worker: begins anew
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                eventually(lambda pid=pid: state(pid) == "Z")
            self.expect_answer()
            pids = children(self.server.process.pid)
        return next(iter(pids))

    def error(self, body, status=400):
        return self.ask(body, status)["error"]["message"]

    def hold(self):
        """Stops the decoder in the middle of a picture; the thread that waits, and where the answer
        will be."""
        pid = self.decoder()
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state(pid) == "T")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.server.request(CHAT, picture())))
        thread.start()
        eventually(lambda: metrics(self.server)["running"] == 1)
        return pid, thread, answers

    def expect_failed(self, thread, answers, *words):
        thread.join(PATIENCE)
        status, _, data = answers[0]
        message = json.loads(data)["error"]["message"]
        self.assertEqual(status, 400, message)
        for word in ("messages[0].content[0]", "picture: could not be decoded", *words):
            self.assertIn(word, message)


class Normal(Decoder):
    def test_media_of_every_kind(self):
        self.expect_answer()
        self.expect_answer(material.OTHER_PICTURE)
        for kind, (name, text, wanted) in (("input_audio", material.SOUND), ("video_url", material.FILM)):
            answer = self.ask(question(kind, material.read(name), text))
            self.assertEqual(answer["choices"][0]["message"]["content"], wanted)

    def test_it_is_what_the_program_itself_reads(self):
        # carat run decodes in its own process.
        name, text, _ = material.FILM
        run = subprocess.run([CARAT, "run", DEMO, "--video", os.path.join(material.EVAL, name), text,
                              "--temperature", "0", "--max-tokens", "32"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        answer = self.ask(question("video_url", material.read(name), text))
        self.assertEqual(answer["choices"][0]["message"]["content"], run.stdout.decode().strip())

    def test_a_picture_that_was_seen_is_reused(self):
        # The second time another process may have decoded it.
        first = self.expect_answer()["usage"]
        pid = self.decoder()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: state(pid) == "Z")
        again = self.expect_answer()["usage"]
        self.assertGreater(again["prompt_tokens_details"]["cached_tokens"], first["prompt_tokens"] - 10)

    def test_what_is_wrong_with_a_file_is_said_as_before(self):
        before = metrics(self.server)
        message = self.error(question("image_url", b"no picture", "What?"))
        self.assertIn("messages[0].content[0]", message)
        self.assertIn("picture: the first bytes are of no known format", message)
        cut = material.read(material.PICTURE[0])[:-30]
        self.assertIn("picture: ", self.error(question("image_url", cut, "What?")))
        after = metrics(self.server)
        self.assertEqual(after["refused"], before["refused"] + 2)
        self.assertEqual(after["failed"], before["failed"])
        self.assertEqual(after["started"], before["started"])  # the process goes on

    def test_many_pictures_leave_nothing_behind(self):
        folder = f"/proc/{self.server.process.pid}/fd"
        self.expect_answer()
        # Of an earlier connection, the server's end may still be about to be closed.
        body = json.dumps(picture(max_tokens=1)).encode()
        files = len(os.listdir(folder))
        started = metrics(self.server)["started"]
        n = 105 if SANITIZED else 220
        for _ in range(n):
            status, _, data = self.server.request(CHAT, body, {"Content-Type": "application/json"})
            self.assertEqual(status, 200, data)
        eventually(lambda: len(os.listdir(folder)) <= files + 2)
        found = children(self.server.process.pid)
        self.assertLessEqual(len(found), 2, found)
        self.assertNotIn("Z", found.values())
        # After a hundred media a fresh one took over.
        self.assertIn(metrics(self.server)["started"] - started, (n // 100, n // 100 + 1))

    def test_the_process_is_confined(self):
        with open(f"/proc/{self.decoder()}/status", encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        if SANITIZED:
            return  # they need what is forbidden otherwise
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(status["Seccomp"].strip(), "2")
        with open(f"/proc/{self.decoder()}/limits", encoding="ascii") as f:
            limits = f.read()
        for row in ("Max open files            3 ", "Max file size             0 ", "Max core file size        0 "):
            self.assertIn(row, limits)
        self.assertNotIn("Max address space         unlimited", limits)

    def test_it_has_no_secrets(self):
        with Server(env={"CARAT_API_KEY": "a-secret"}) as server:
            eventually(lambda: children(server.process.pid))
            pid = next(iter(children(server.process.pid)))
            eventually(lambda: content(f"/proc/{pid}/cmdline") == b"carat\0" + DECODER.encode() + b"\0")
            self.assertNotIn(b"a-secret", content(f"/proc/{pid}/environ"))

    def test_signals_for_the_server_leave_it_alone(self):
        pid = self.decoder()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            os.kill(pid, number)
        self.expect_answer()
        self.assertEqual(list(children(self.server.process.pid)), [pid])

    def test_by_hand_it_says_what_it_is(self):
        done = subprocess.run([CARAT, DECODER], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"carat starts for itself", done.stderr)
        listed = subprocess.run([CARAT, "help"], stdout=subprocess.PIPE, check=True).stdout
        self.assertNotIn(DECODER.encode(), listed)


class Broken(Decoder):
    """Decoders that die, while somebody else is served."""

    def test_killed_while_it_works(self):
        before = metrics(self.server)
        for number, words in ((signal.SIGKILL, "signal 9 (killed)"), (signal.SIGSEGV, "signal 11 (segmentation fault)"),
                              (signal.SIGABRT, "signal 6 (aborted)")):
            pid, thread, answers = self.hold()
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
            # Sanitizers catch some of them and end in their own way.
            self.expect_failed(thread, answers, "the decoder ended with " + ("" if SANITIZED else words))
            self.assertNotIn(pid, children(self.server.process.pid))
            self.expect_answer(material.OTHER_PICTURE)
        after = metrics(self.server)
        self.assertEqual(after["failed"], before["failed"] + 3)
        self.server.wait_for_log("picture: could not be decoded: the decoder ended with")

    def test_one_that_died_while_it_waited_costs_nothing(self):
        for _ in range(3):
            pid = self.decoder()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: state(pid) == "Z")
            self.expect_answer()
        self.assertNotIn("Z", children(self.server.process.pid).values())

    def test_a_client_that_goes_away_is_not_worked_for(self):
        pid = self.decoder()
        os.kill(pid, signal.SIGSTOP)
        connection = http.client.HTTPConnection(self.server.host, self.server.port)
        connection.request("POST", CHAT, json.dumps(picture()), {"Content-Type": "application/json"})
        eventually(lambda: metrics(self.server)["running"] == 1)
        connection.close()
        eventually(lambda: state(pid) == "Z")
        self.expect_answer()

    def test_streams_of_neighbours_do_not_notice(self):
        def texts(stream):
            lines = [line[6:] for line in stream.decode().splitlines() if line.startswith("data: {")]
            return "".join(choice["delta"].get("content") or "" for line in lines for choice in json.loads(line)["choices"])
        ask = long(100, stream=True)
        server = self.server
        self.server = Server(endless())
        self.addCleanup(setattr, self, "server", server)
        with self.server as own:
            alone = texts(own.request(CHAT, ask)[2])
            self.assertGreater(len(alone), 50)
            answers = []
            neighbour = threading.Thread(target=lambda: answers.append(own.request(CHAT, ask)[2]))
            neighbour.start()
            own.request(CHAT, picture(max_tokens=1))
            pid = next(iter(children(own.process.pid)))
            os.kill(pid, signal.SIGSTOP)
            broken = []
            thread = threading.Thread(target=lambda: broken.append(own.request(CHAT, picture(max_tokens=1))))
            thread.start()
            eventually(lambda: metrics(own)["running"] == 1)
            os.kill(pid, signal.SIGKILL)
            self.expect_failed(thread, broken, "signal 9")
            neighbour.join(PATIENCE)
            self.assertEqual(texts(answers[0]), alone)

    def test_one_without_memory_is_replaced(self):
        pid = self.decoder()
        with open(f"/proc/{pid}/statm", encoding="ascii") as f:
            limit = int(f.read().split()[0]) * resource.getpagesize() + (1 << 20)
        if SANITIZED:
            return  # their memory is not to be limited
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        body = question("image_url", png(3000, 3000), "What?")
        status, _, data = self.server.request(CHAT, body)
        self.assertIn(status, (400, 413), data)
        self.assertIn(b"picture: ", data)
        eventually(lambda: state(pid) == "Z")
        self.ask({**body, "max_tokens": 1})


class Hanging(Decoder):
    """One that hangs."""

    args = ("--media-timeout", "1")

    def test_one_that_hangs_is_given_up(self):
        pid, thread, answers = self.hold()
        # Others are served meanwhile, by another process.
        self.expect_answer(material.OTHER_PICTURE)
        self.expect_failed(thread, answers, "no answer in time")
        self.assertEqual(state(pid), "Z")
        self.expect_answer()


class Bombs(Decoder):
    def test_pictures_that_would_fill_the_memory(self):
        pid = self.decoder()
        # Few bytes that unpack to more than may be held; sides that only the header claims.
        for sides, rows in (((12000, 9000), None), ((100000, 100000), b"\0")):
            self.assertIn("limit", self.error(question("image_url", png(*sides, rows), "What?"), 413))
        self.expect_answer()
        self.assertEqual(list(children(self.server.process.pid)), [pid])


class Ends(unittest.TestCase):
    def test_a_server_that_is_killed_leaves_nobody(self):
        with Server() as server:
            status, _, data = server.request(CHAT, picture())
            self.assertEqual(status, 200, data)
            pids = list(children(server.process.pid))
            self.assertTrue(pids)
            server.kill()
            for pid in pids:
                eventually(lambda pid=pid: state(pid) == "Z")

    def test_a_server_that_stops_does_not_wait_for_one_that_hangs(self):
        with Server(["--drain-timeout", "0.2"]) as server:
            server.request(CHAT, picture())
            pid = next(iter(children(server.process.pid)))
            os.kill(pid, signal.SIGSTOP)
            answers = []

            def ask():
                with contextlib.suppress(OSError):  # the answer may be cut
                    answers.append(server.request(CHAT, picture()))
            thread = threading.Thread(target=ask)
            thread.start()
            eventually(lambda: metrics(server)["running"] == 1)
            began = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - began, 60)  # decoding may take 120 s
            thread.join(PATIENCE)
            self.assertTrue(not answers or answers[0][0] == 503, answers)
            eventually(lambda: state(pid) == "Z")


class Batch(unittest.TestCase):
    def test_batch_decodes_there_too(self):
        with tempfile.TemporaryDirectory() as folder:
            jobs, answers = os.path.join(folder, "jobs.jsonl"), os.path.join(folder, "answers.jsonl")
            with open(jobs, "w", encoding="utf-8") as f:
                for i, data in enumerate((material.read(material.PICTURE[0]), b"no picture")):
                    f.write(json.dumps({"custom_id": str(i), "method": "POST", "url": CHAT,
                                        "body": question("image_url", data, material.PICTURE[1])}) + "\n")
            subprocess.run([CARAT, "batch", DEMO, jobs, answers], stdin=subprocess.DEVNULL, timeout=PATIENCE,
                           stderr=subprocess.PIPE, check=False)
            with open(answers, encoding="utf-8") as f:
                rows = {row["custom_id"]: row for row in map(json.loads, f)}
            body = rows["0"]["response"]["body"]
            self.assertEqual(body["choices"][0]["message"]["content"], material.PICTURE[2])
            self.assertIn("no known format", json.dumps(rows["1"]))


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        print("skipped: this looks at processes in /proc")
        sys.exit(77)
    unittest.main()
