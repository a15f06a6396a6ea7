# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody should send, over bare sockets. After each of them the server must answer a
normal request as if nothing had been."""
import json
import os
import re
import resource
import socket
import struct
import time
import unittest

from harness import PATIENCE, Server

SANITIZED = os.environ.get("CARAT_SANITIZE", "none") != "none"
CHAT = "/v1/chat/completions"
SUM = {"model": "m", "messages": [{"role": "user", "content": "What is 2+3?"}], "temperature": 0}
LONG = {"model": "m", "stream": True, "max_tokens": 2000, "ignore_eos": True, "temperature": 1,
        "seed": 7, "messages": [{"role": "user", "content": "Tell me something"}]}


def setUpModule():
    global server
    server = Server(["--header-timeout", "1", "--body-timeout", "2", "--idle-timeout", "4",
                     "--body-max", "1", "--connections", "300", "--quiet"])


def tearDownModule():
    server.stop()


class Wire:
    """One connection: bytes out, bytes in."""

    def __init__(self, data=b"", to=None):
        self.socket = socket.create_connection(((to or server).host, (to or server).port), timeout=PATIENCE)
        self.send(data)

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("utf-8"))

    def read(self):
        """All that comes until the other side closes."""
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        self.socket.close()
        return data

    def read_until(self, mark):
        data = b""
        while mark not in data:
            piece = self.socket.recv(65536)
            if not piece:
                raise AssertionError(f"closed before {mark!r}: {data!r}")
            data += piece
        return data

    def status(self):
        data = self.read()
        found = re.match(rb"HTTP/1\.[01] (\d+) ", data)
        return int(found.group(1)) if found else None

    def reset(self):
        """Closes so that the other side sees a broken connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def post(path, body, extra="", close=True):
    body = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8")
    head = (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{extra}" + ("Connection: close\r\n" if close else "") + "\r\n")
    return head.encode("latin-1") + body


def get(path="/health", extra="", host="Host: localhost\r\n", version="HTTP/1.1"):
    return f"GET {path} {version}\r\n{host}{extra}Connection: close\r\n\r\n".encode("latin-1")


class Hostile(unittest.TestCase):
    def tearDown(self):
        answer = server.json(CHAT, SUM)
        self.assertEqual(answer["choices"][0]["message"]["content"], "5")
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")

    def error_of(self, data, status, form="openai"):
        """The refusal in the form of the dialect, with words for a human."""
        head, _, body = data.partition(b"\r\n\r\n")
        self.assertEqual(int(head.split(b" ")[1]), status, data[:500])
        if b"chunked" in head.lower():
            body = body.split(b"\r\n", 1)[1].rsplit(b"\r\n0\r\n", 1)[0]
        error = json.loads(body)
        message = error["error"] if form == "ollama" else error["error"]["message"]
        self.assertTrue(message)
        return message


class Bodies(Hostile):
    PATHS = [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
             "/v1/messages/count_tokens", "/api/chat", "/api/generate", "/api/embed", "/api/show",
             "/v1beta/models/m:generateContent", "/v1beta/models/m:countTokens", "/tokenize",
             "/detokenize", "/v1/audio/transcriptions"]

    def refused(self, path, body):
        data = Wire(post(path, body)).read()
        form = "ollama" if path.startswith("/api/") else "openai"
        status = int(data.split(b" ")[1])
        self.assertIn(status, (400, 404, 413), (path, body[:100], data[:300]))
        return self.error_of(data, status, form)

    def test_json_that_is_none(self):
        bad = [b"", b"{", b"[", b"nul", b"{\"a\":}", b"{'a':1}", b"\xff\xfe{\x00}\x00", b"{}}", b"{}{}",
               b"\x00" * 100, b"{\"messages\": [}", b"\"text\"", b"[]", b"null", b"12",
               b"{\"a\":\"\xc3\x28\"}", b"{\"a\":\"\xed\xa0\x80\"}", b"{\"a\":\"\\ud800\"}",
               b"{\"a\":\"\x01\"}", b"{\"a\":01}", b"{\"a\":+1}", b"{\"a\":NaN}", b"{\"a\":Infinity}"]
        for path in self.PATHS:
            for body in bad:
                with self.subTest(path=path, body=body):
                    self.refused(path, body)

    def test_nesting(self):
        for path in self.PATHS:
            for deep in (b"[" * 1000 + b"]" * 1000, b"{\"a\":" * 300 + b"1" + b"}" * 300, b"[" * 500000,
                         b"{\"messages\":" + b"[" * 400 + b"]" * 400 + b"}"):
                with self.subTest(path=path, deep=deep[:20]):
                    self.refused(path, deep)

    def test_wrong_types(self):
        wrong = [None, True, 0, -1, 1.5, "x", [], {}, [[]], [None], [1], {"a": 1}, ["\x00"], [{}],
                 [{"role": []}], [{"role": "user", "content": 3}], [{"role": "user", "content": [3]}],
                 [{"role": "user", "content": [{"type": "image_url"}]}],
                 [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": []}}]}],
                 [{"role": "tool"}], [{"role": "assistant", "tool_calls": [{}]}]]
        for path, name in ((CHAT, "messages"), ("/v1/completions", "prompt"), ("/v1/embeddings", "input"),
                           ("/v1/messages", "messages"), ("/api/chat", "messages"),
                           ("/v1/responses", "input"), ("/v1beta/models/m:generateContent", "contents"),
                           ("/detokenize", "tokens")):
            for value in wrong:
                with self.subTest(path=path, value=value):
                    body = {"model": "m", "max_tokens": 1, "max_output_tokens": 1, name: value,
                            "options": {"num_predict": 1}, "stream": False,
                            "generationConfig": {"maxOutputTokens": 1}}
                    status = Wire(post(path, body)).status()
                    self.assertIn(status, (200, 400), (path, value))

    def test_huge_numbers(self):
        for number in ("1e999", "-1e999", "9" * 400, "-" + "9" * 400, "1e-999", "18446744073709551616",
                       "-9223372036854775809", "0." + "0" * 400 + "1", "4294967296", "1e308"):
            for name in ("temperature", "top_p", "top_k", "max_tokens", "seed", "n", "presence_penalty",
                         "top_logprobs", "logit_bias", "stop"):
                with self.subTest(number=number[:30], name=name):
                    body = json.dumps({**SUM, "max_completion_tokens": 2}).replace(
                        "{", "{\"" + name + "\":" + number + ",", 1).encode()
                    self.assertIn(Wire(post(CHAT, body)).status(), (200, 400))

    def test_every_field_of_every_type(self):
        names = ["model", "messages", "temperature", "top_p", "top_k", "min_p", "n", "stream",
                 "stream_options", "stop", "max_tokens", "max_completion_tokens", "presence_penalty",
                 "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
                 "user", "seed", "tools", "tool_choice", "parallel_tool_calls", "response_format",
                 "reasoning_effort", "modalities", "audio", "metadata", "store", "functions",
                 "function_call", "chat_template_kwargs"]
        for name in names:
            for value in (None, True, -1, 1e300, "\u0000", "x" * 5000, [], [{}], {}, {"type": 3}):
                with self.subTest(name=name, value=str(value)[:30]):
                    body = {**SUM, "max_completion_tokens": 2, name: value}
                    self.assertIn(Wire(post(CHAT, body)).status(), (200, 400))

    def test_text_that_is_no_utf8(self):
        for bad in (b"\xff", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80", b"\xe2\x82", b"\xed\xa0\x80\xed\xb0\x80"):
            body = b'{"messages":[{"role":"user","content":"' + bad + b'"}]}'
            self.error_of(Wire(post(CHAT, body)).read(), 400)

    def test_media_that_are_none(self):
        for url in ("data:image/png;base64,AAAA", "data:image/png;base64,!!!!", "data:,", "data:", "x",
                    "data:image/png;base64,iVBORw0KGgo=", "http://127.0.0.1/", "file:///etc/passwd", ""):
            body = {"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": url}}]}]}
            self.error_of(Wire(post(CHAT, body)).read(), 400)

    def test_too_large(self):
        text = self.error_of(Wire(post(CHAT, b"x" * 1200000)).read(), 413)
        self.assertIn("--body-max", text)
        # In chunks, which say nothing before.
        wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                    "Connection: close\r\n\r\n")
        wire.send(b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n")
        self.error_of(wire.read(), 413)
        # Who asks first need not send.
        wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
                    "Expect: 100-continue\r\n\r\n")
        self.error_of(wire.read(), 413)
        # Without end: cut.
        wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with self.assertRaises(OSError):
            for _ in range(10000):
                wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        wire.socket.close()


class Framing(Hostile):
    def test_two_lengths(self):
        for extra in ("Content-Length: 2\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"):
            head = (f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{extra}\r\n{{}}"
                    "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = Wire(head).read()
            self.assertTrue(data.startswith(b"HTTP/1.1 400"), data)
            self.assertEqual(data.count(b"HTTP/1.1"), 1)  # and nothing after it is believed

    def test_codings(self):
        for value in ("gzip", "gzip, chunked", "chunked, gzip", "identity", "chunked\r\nTransfer-Encoding: x"):
            data = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {value}\r\n\r\n"
                        "2\r\n{}\r\n0\r\n\r\n").read()
            self.assertTrue(data.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 501")), (value, data))

    def test_lengths_that_are_none(self):
        for value in ("-1", "x", "1x", "0x10", "99999999999999999999999", "1,1", "+2", " "):
            wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {value}\r\n\r\n{{}}")
            self.assertIn(wire.status(), (400, 413, None), value)

    def test_chunks_that_are_none(self):
        for body in ("x\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "2\r\n{}", "2\r\n{}x\r\n", "\r\n\r\n"):
            wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
            wire.socket.shutdown(socket.SHUT_WR)
            self.assertIn(wire.status(), (400, 413, None), body)

    def test_two_hosts(self):
        data = Wire(get(extra="Host: localhost\r\n")).read()
        self.assertTrue(data.startswith(b"HTTP/1.1 400"), data)
        self.assertTrue(Wire(get(host="")).read().startswith(b"HTTP/1.1 400"))

    def test_rubbish(self):
        for data in (b"\x00" * 1000, b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"GET  /  HTTP/1.1\r\n\r\n", b"\r\n" * 1000, b"G" * 100000, b"GET " + b"/" * 100000,
                     b"GET /health HTTP/1.1\r\nHost\r\n\r\n", b"GET /health HTTP/1.1\r\n: x\r\n\r\n",
                     b"GET /health HTTP/1.1\r\nHost: localhost\r\n X: folded\r\nBad Name: x\r\n\r\n",
                     os.urandom(5000)):
            wire = Wire()
            try:
                wire.send(data)
                wire.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.assertIn(wire.status(), (None, 400, 403, 404, 405, 413, 414, 431, 501, 505), data[:40])
        # The library takes a zero byte for the end of the path.
        self.assertIn(Wire(b"GET /health\x00x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status(),
                      (200, 400))

    def test_header_floods(self):
        for extra in ("X: " + "x" * 100000 + "\r\n", "X: y\r\n" * 2000, "X" * 100000 + ": y\r\n",
                      "".join(f"X-{i}: y\r\n" for i in range(500)), "Cookie: " + "a=b; " * 10000 + "\r\n"):
            wire = Wire()
            try:
                wire.send(get(extra=extra))
            except OSError:
                pass
            self.assertIn(wire.status(), (None, 400, 413, 414, 431), extra[:40])

    def test_paths(self):
        for path, status in (("/%00", 404), ("/health%00", 404), ("/../../etc/passwd", 404), ("/%2e%2e/", 404),
                             ("/%", 404), ("/%zz", 404), ("/" + "a" * 8000, 404), ("//health", 404),
                             ("/v1/models/%ff%fe", 404), ("/assets/../serve.c", 404),
                             ("/health?" + "&".join(f"a{i}=1" for i in range(150)), 200),
                             ("/health?" + "&".join(f"a{i}=1" for i in range(210)), 431)):
            data = Wire(get(path)).read()
            self.assertEqual(int(data.split(b" ")[1]), status, (path[:40], data[:200]))
        # More than the memory of a connection: it is closed.
        self.assertIn(Wire(get("/health?" + "&".join(f"a{i}=1" for i in range(1000)))).status(), (None, 431))

    def test_methods(self):
        for method, path, status in (("POST", "/health", 405), ("DELETE", CHAT, 405), ("BREW", CHAT, 405),
                                     ("GET", CHAT, 405), ("PUT", "/nowhere", 404), ("CONNECT", "/", 405),
                                     ("TRACE", "/", 405)):
            data = Wire(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").read()
            self.error_of(data, status)
            if status == 405:
                self.assertIn(b"\r\nAllow: ", data)

    def test_pipelining(self):
        n = 5
        wire = Wire((get().replace(b"Connection: close\r\n", b"") + post(CHAT, SUM, close=False)) * n + get("/version"))
        data = wire.read()
        self.assertEqual(data.count(b"HTTP/1.1 200"), 2 * n + 1)
        self.assertEqual(data.count(b'"content":"5"'), n)


class Clients(Hostile):
    def closes(self, wire, seconds):
        """The server ends this connection by itself, in that time."""
        wire.socket.settimeout(seconds)
        try:
            while wire.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except socket.timeout:
            self.fail(f"still open after {seconds} s")
        finally:
            wire.socket.close()

    def drip(self, wire, data, seconds):
        """Sends byte by byte until the server has had enough."""
        end = time.monotonic() + seconds
        try:
            for byte in data:
                if time.monotonic() > end:
                    self.fail(f"may still drip after {seconds} s")
                wire.send(bytes([byte]))
                time.sleep(0.05)
                wire.socket.setblocking(False)
                try:
                    if wire.socket.recv(1000) == b"":
                        return
                except BlockingIOError:
                    pass
                wire.socket.settimeout(PATIENCE)
        except OSError:
            return
        finally:
            wire.socket.close()

    def test_dripping_headers(self):
        self.drip(Wire(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "), b"x" * 2000, 15)

    def test_dripping_bodies(self):
        wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n")
        self.drip(wire, b"x" * 3000, 20)

    def test_silence(self):
        self.closes(Wire(), 30)
        self.closes(Wire(b"GET /health HTTP/1.1\r\n"), 30)
        self.closes(Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{"), 30)

    def test_half_closed(self):
        wire = Wire(get())
        wire.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(wire.status(), 200)
        wire = Wire(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{")
        wire.socket.shutdown(socket.SHUT_WR)
        wire.read()

    def test_leaving(self):
        """At every point of a request and of its answer, politely and not."""
        whole = post(CHAT, LONG, close=False)
        for size in (0, 1, 20, 60, len(whole) - 1, len(whole)):
            for is_polite in (True, False):
                wire = Wire(whole[:size])
                wire.socket.close() if is_polite else wire.reset()
        for mark in (b"HTTP/1.1 200", b"data: ", b"content"):
            for is_polite in (True, False):
                wire = Wire(whole)
                wire.read_until(mark)
                wire.socket.close() if is_polite else wire.reset()
        self.assertIdle()

    def assertIdle(self):
        """What nobody waits for any more is not computed."""
        end = time.monotonic() + PATIENCE
        running = None
        while time.monotonic() < end:
            text = server.request("/metrics")[2].decode()
            running = [float(re.search(name + r"{.*?} (\S+)", text).group(1))
                       for name in ("carat_requests_running", "carat_requests_waiting")]
            if running == [0, 0]:
                return
            time.sleep(0.1)
        self.fail(f"still at work: {running}")

    def test_a_reader_that_does_not_read(self):
        wires = []
        for _ in range(4):
            wire = Wire(post(CHAT, LONG))
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wires.append(wire)
        self.assertEqual(server.json(CHAT, SUM)["choices"][0]["message"]["content"], "5")
        for wire in wires:
            wire.reset()
        self.assertIdle()

    def test_more_than_may_connect(self):
        wires = [Wire() for _ in range(400)]  # the limit is 300
        # Those that say nothing give way before their time is over.
        started = time.monotonic()
        self.assertEqual(server.json("/health")["status"], "ok")
        if not SANITIZED:
            self.assertLess(time.monotonic() - started, 3)
        for wire in wires:
            wire.socket.close()


class Origins(Hostile):
    def status(self, *headers, host="localhost", path="/v1/models", method="GET"):
        lines = "".join(h + "\r\n" for h in headers)
        return Wire(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n").status()

    def test_hosts(self):
        port = server.port
        for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "LOCALHOST.", "[::1]:80", "127.0.0.1",
                     "carat.localhost"):
            self.assertEqual(self.status(host=host), 200, host)
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example",
                     "192.168.0.1", "0.0.0.0", "evil.example@localhost", "localhost:x", "[::1", "::1", "localhost, x",
                     "127.0.0.1:80:80", "notlocalhost", "x" * 1000):
            self.assertIn(self.status(host=host), (403, 400), host)

    def test_origins(self):
        own = f"127.0.0.1:{server.port}"
        self.assertEqual(self.status(f"Origin: http://{own}", host=own), 200)
        for origin in ("http://evil.example", "null", "https://localhost.evil.example", "http://localhost:1",
                       "file://", "x", "http://"):
            self.assertEqual(self.status(f"Origin: {origin}", host=own), 403, origin)
        self.assertEqual(self.status("Origin: http://evil.example", "Access-Control-Request-Method: POST",
                                     host=own, path=CHAT, method="OPTIONS"), 403)


class Crowd(unittest.TestCase):
    N = 1000
    MEMORY_MAX = 50e6

    def resident(self, server):
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024

    @unittest.skipUnless(os.path.exists("/proc/self/status"), "needs /proc")
    def test_idle_connections_are_cheap(self):
        """Clients that have asked something and stay connected."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < self.N + 100:
            self.skipTest(f"only {hard} files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        ask = get().replace(b"Connection: close\r\n", b"")
        with Server(["--connections", str(self.N + 50), "--quiet"]) as server:
            server.json(CHAT, SUM)
            before = self.resident(server)
            wires = [Wire(ask, server) for _ in range(self.N)]
            for wire in wires:
                self.assertIn(b"HTTP/1.1 200", wire.read_until(b"}"))
            connections = re.search(r"carat_connections{.*?} (\S+)", server.request("/metrics")[2].decode())
            self.assertGreaterEqual(float(connections.group(1)), self.N)
            grown = self.resident(server) - before
            print(f"{self.N} idle connections: {grown / 1e6:.1f} MB")
            if not SANITIZED:
                self.assertLess(grown, self.MEMORY_MAX)
            self.assertEqual(server.json(CHAT, SUM)["choices"][0]["message"]["content"], "5")
            for wire in wires[::7]:
                wire.send(ask)
                self.assertIn(b"HTTP/1.1 200", wire.read_until(b"}"))
            for wire in wires:
                wire.socket.close()


if __name__ == "__main__":
    unittest.main()
