# SPDX-License-Identifier: Apache-2.0
"""The server itself: options and where they come from, who may ask, what it tells, how it ends."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from harness import CARAT, DEMO, PATIENCE, Server

CHAT = "/v1/chat/completions"
SUM = {"model": "m", "messages": [{"role": "user", "content": "What is 2+3?"}], "temperature": 0}


def endless():
    """Options under which no answer ends by itself."""
    text = "<turn|><eos><|tool_response><|tool_call>"
    ids = subprocess.run([CARAT, "tokenize", DEMO, "--special", text], stdout=subprocess.PIPE,
                         check=True).stdout.decode().split()
    return ["--no-loop-guard", *(word for i in ids for word in ("--logit-bias", f"{i}=-inf"))]


def long(tokens, **more):
    return {"model": "m", "max_tokens": tokens, "temperature": 1, "seed": 3,
            "messages": [{"role": "user", "content": "Tell me something"}], **more}


def fails(*args, env=None):
    """carat serve that must not start: exit code and what it said."""
    done = subprocess.run([CARAT, "serve", *args], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          stdout=subprocess.PIPE, timeout=PATIENCE,
                          env={**os.environ, "XDG_CONFIG_HOME": "/nonexistent", "CARAT_CACHE_DIR": "none", **(env or {})})
    return done.returncode, done.stderr.decode()


class ServeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(content)
        return path

    def assert_refused(self, result, code, *words):
        self.assertEqual(result[0], code, result)
        self.assertTrue(result[1].startswith("carat: "), result)
        for word in words:
            self.assertIn(word, result[1])


class Information(ServeTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(["--model-id", "My Model"])

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_health_version_models(self):
        server = self.server
        self.assertEqual(server.json("/health"), {"status": "ok", "model": "My-Model"})
        self.assertRegex(server.json("/version")["version"], r"^\d+\.\d+\.\d+$")
        models = server.json("/v1/models")
        self.assertEqual([m["id"] for m in models["data"]], ["My-Model"])
        model = models["data"][0]
        self.assertEqual((model["object"], model["type"], model["owned_by"]), ("model", "model", "carat"))
        self.assertIn("image", model["architecture"]["input_modalities"])
        self.assertEqual(server.json("/v1/models/My-Model"), model)
        self.assertIn("My-Model", server.json("/v1/models/other", status=404)["error"]["message"])

    def test_head(self):
        status, headers, data = self.server.request("/health", method="HEAD")
        self.assertEqual((status, data), (200, b""))
        self.assertGreater(int(headers["Content-Length"]), 10)

    def test_errors_take_the_form_of_the_dialect(self):
        server = self.server
        self.assertIn("error", server.json("/v1/chat/nowhere", {}, status=404))
        self.assertEqual(server.json("/v1/messages/nowhere", {}, status=404)["type"], "error")
        self.assertIsInstance(server.json("/api/nowhere", {}, status=404)["error"], str)
        self.assertEqual(server.json("/v1beta/nowhere", {}, status=404)["error"]["code"], 404)
        status, headers, data = server.request("/v1/messages", method="GET")
        self.assertEqual((status, headers["Allow"]), (405, "POST, OPTIONS"))
        self.assertEqual(json.loads(data)["type"], "error")

    def test_ids_and_traces(self):
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        _, headers, _ = self.server.request("/health", headers={"X-Request-Id": "abc-1.2_3", "traceparent": trace})
        self.assertEqual((headers["X-Request-Id"], headers["traceparent"]), ("abc-1.2_3", trace))
        line = self.server.wait_for_log("abc-1.2_3")
        self.assertIn(trace, line)
        for bad in ("x" * 100, "a b", "<script>"):
            _, headers, _ = self.server.request("/health", headers={"X-Request-Id": bad, "traceparent": bad})
            self.assertRegex(headers["X-Request-Id"], r"^[0-9a-f]{16}$")
            self.assertIsNone(headers["traceparent"])

    def test_a_line_for_each_request(self):
        self.server.json(CHAT, SUM, headers={"X-Request-Id": "the-sum"})
        line = self.server.wait_for_log("the-sum")
        self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.1 POST /v1/chat/completions 200 "
                               r"\d+\.\d{3} s \d+ bytes tokens in \d+ \(cached \d+\) out 2 id the-sum")
        # Nothing in a path may look like another line, or steer a terminal.
        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
            s.sendall(b"GET /%0a%1b%5b31mevil%20line HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while s.recv(4096):
                pass
        self.assertIn(r"/\x0a\x1b[31mevil\x20line 404", self.server.wait_for_log("evil"))

    def test_metrics(self):
        server = self.server

        def values():
            status, headers, data = server.request("/metrics")
            self.assertEqual(status, 200)
            self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
            found = {}
            for line in data.decode().splitlines():
                if not line.startswith("#"):
                    name, value = re.fullmatch(r"([a-zA-Z_:][\w:]*(?:{.*})?) (\S+)", line).groups()
                    self.assertNotIn(name, found)
                    found[name] = float(value)
            return found

        label = '{model_name="My-Model"}'
        before = values()
        usage = server.json(CHAT, SUM)["usage"]
        after = values()
        for name, change in (("carat_prompt_tokens_total", usage["prompt_tokens"]),
                             ("vllm:prompt_tokens_total", usage["prompt_tokens"]),
                             ("carat_answer_tokens_total", usage["completion_tokens"]),
                             ("vllm:generation_tokens_total", usage["completion_tokens"]),
                             ("carat_time_to_first_token_seconds_count", 1),
                             ("vllm:e2e_request_latency_seconds_count", 1)):
            self.assertEqual(after[name + label] - before[name + label], change, name)
        for name in ("vllm:num_requests_waiting", "vllm:num_requests_running", "carat_requests_waiting"):
            self.assertEqual(after[name + label], 0)
        self.assertTrue(0 < after["vllm:kv_cache_usage_perc" + label] <= 1)
        buckets = [v for k, v in after.items() if k.startswith("carat_request_seconds_bucket")]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual(buckets[-1], after["carat_request_seconds_count" + label])

    def test_tokens(self):
        server = self.server
        text = "Hello wörld, 你好"
        plain = server.json("/tokenize", {"content": text})["tokens"]
        whole = server.json("/tokenize", {"prompt": text})
        self.assertEqual(whole["tokens"][1:], plain)  # <bos> stands before it
        self.assertEqual(whole["count"], len(plain) + 1)
        by_command = subprocess.run([CARAT, "tokenize", DEMO, text], stdout=subprocess.PIPE, check=True)
        self.assertEqual([int(t) for t in by_command.stdout.split()], plain)
        self.assertEqual(server.json("/detokenize", {"tokens": plain}), {"prompt": text, "content": text})
        pieces = server.json("/tokenize", {"content": text, "with_pieces": True})["tokens"]
        joined = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
        self.assertEqual(joined.decode(), text)
        chat = server.json("/tokenize", {"messages": SUM["messages"], "return_token_strs": True})
        self.assertEqual(chat["token_strs"][:3], ["<bos>", "<|turn>", "user"])
        self.assertEqual(server.json(CHAT, SUM)["usage"]["prompt_tokens"], chat["count"])


class Sources(ServeTest):
    """Flags go before the environment, and that before the file."""

    def name(self, *args, env=None):
        with Server(list(args), env=env) as server:
            name = server.json("/health")["model"]
        return name, server.log

    def test_precedence(self):
        config = self.path("serve.conf", "# a comment\n\n  model-id =  from file \nquiet = yes\n")
        self.assertEqual(self.name("--config", config)[0], "from-file")
        self.assertNotIn("/health", self.name("--config", config)[1])
        env = {"CARAT_MODEL_ID": "from-environment", "CARAT_QUIET": "false"}
        name, log = self.name("--config", config, env=env)
        self.assertEqual(name, "from-environment")
        self.assertIn("/health", log)  # a switch that is off in the environment
        self.assertEqual(self.name("--config", config, "--model-id", "from-flag", env=env)[0], "from-flag")
        self.assertEqual(self.name(env={"CARAT_CONFIG": config})[0], "from-file")
        home = self.path("home")
        self.path("home/carat/serve.conf", 'model-id = "from default"\n')
        self.assertEqual(self.name(env={"XDG_CONFIG_HOME": home})[0], "from-default")
        self.assertNotEqual(self.name("--config", "", env={"XDG_CONFIG_HOME": home})[0], "from-default")

    def test_lists(self):
        config = self.path("serve.conf", "api-key = first-key\napi-key = second-key\n")
        with Server(["--config", config]) as server:
            for key, status in (("first-key", 200), ("second-key", 200), ("third-key", 401)):
                self.assertEqual(server.request("/v1/models", headers={"x-api-key": key})[0], status)
        with Server(["--config", config], env={"CARAT_API_KEY": "third-key, fourth-key"}) as server:
            for key, status in (("first-key", 401), ("third-key", 200), ("fourth-key", 200)):
                self.assertEqual(server.request("/v1/models", headers={"x-api-key": key})[0], status)

    def test_errors_say_where(self):
        for content, *words in (("port = 1\nport 2\n", ":2:", "name = value"), ("prot = 1\n", ":1:", "--port"),
                                ("\nport = many\n", ":2:", "--port", "many"), ("quiet = perhaps\n", ":1:", "quiet"),
                                ("config = x\n", ":1:", "config"), ("\0\0", "text")):
            path = self.path("bad.conf", content)
            self.assert_refused(fails("--config", path), 2, path, *words)
        self.assert_refused(fails(env={"CARAT_PORT": "many"}), 2, "CARAT_PORT", "many")
        self.assert_refused(fails(env={"CARAT_NO_PAGE": "perhaps"}), 2, "CARAT_NO_PAGE", "true or false")
        self.assert_refused(fails("--config", self.path("nowhere")), 2, "nowhere")

    def test_help_needs_no_sources(self):
        done = subprocess.run([CARAT, "serve", "--help"], stdout=subprocess.PIPE, env=dict(os.environ, CARAT_PORT="x"))
        self.assertEqual(done.returncode, 0)
        self.assertIn("--api-key-file", done.stdout.decode())


class Keys(ServeTest):
    def test_where_keys_may_stand(self):
        with Server(["--api-key", "secret-1"]) as server:
            for path, headers in (("/v1/models", {"Authorization": "Bearer secret-1"}),
                                  ("/v1/models", {"authorization": "bearer  secret-1 "}),
                                  ("/v1/models", {"x-api-key": "secret-1"}),
                                  ("/v1beta/models", {"x-goog-api-key": "secret-1"}),
                                  ("/v1beta/models?key=secret-1", {}), ("/health", {}), ("/", {"Accept-Encoding": "gzip"})):
                self.assertEqual(server.request(path, headers=headers)[0], 200, (path, headers))
            for path, headers in (("/v1/models", {}), ("/metrics", {}), ("/api/tags", {}),
                                  ("/v1/models", {"Authorization": "Bearer secret-"}),
                                  ("/v1/models", {"Authorization": "Bearer secret-11"}),
                                  ("/v1/models", {"Authorization": "Basic secret-1"}),
                                  ("/v1/models", {"Authorization": "Bearer "}),
                                  ("/v1/models", {"x-api-key": ""}), ("/v1/models?key=", {}),
                                  ("/v1/models", {"x-api-key": "x" * 4000})):
                status, answer, data = server.request(path, headers=headers)
                self.assertEqual(status, 401, (path, headers))
                self.assertEqual(answer["WWW-Authenticate"], "Bearer")
                self.assertTrue(json.loads(data)["error"])
            status, _, data = server.request("/v1/messages", {})
            self.assertEqual((status, json.loads(data)["error"]["type"]), (401, "authentication_error"))
        self.assertNotIn("secret-1", server.log)

    def test_files_are_read_again(self):
        path = self.path("keys", "# ours\nalpha-key\n\nbeta-key\n")

        def status(key):
            return server.request("/v1/models", headers={"x-api-key": key})[0]

        with Server(["--api-key-file", path, "--api-key", "fixed-key"]) as server:
            self.assertEqual([status(k) for k in ("alpha-key", "beta-key", "fixed-key", "gamma-key")],
                             [200, 200, 200, 401])
            mark = len(server.lines)
            self.path("keys", "gamma-key\n")  # noticed by itself
            server.wait_for_log("2 API keys now", after=mark)
            self.assertEqual([status(k) for k in ("alpha-key", "fixed-key", "gamma-key")], [401, 200, 200])
            mark = len(server.lines)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("2 API keys now", after=mark)
            # What is wrong changes nothing, and is said.
            for content in ("", "# none\n", "with space in it\n"):
                mark = len(server.lines)
                self.path("keys", content)
                self.assertIn(path, server.wait_for_log("stay as they were", after=mark))
                self.assertEqual([status(k) for k in ("gamma-key", "fixed-key", "")], [200, 200, 401])
            os.remove(path)
            server.wait_for_log("stay as they were.*No such file", after=mark)
            self.assertEqual(status("gamma-key"), 200)

    def test_start_without_protection_is_refused(self):
        self.assert_refused(fails("--host", "0.0.0.0"), 2, "0.0.0.0", "--api-key")
        self.assert_refused(fails("--host", "::"), 2, "--api-key")
        self.assert_refused(fails("--api-key-file", self.path("nowhere")), 1, "nowhere")
        self.assert_refused(fails("--api-key-file", self.path("empty", "\n")), 1, "no key")
        self.assert_refused(fails("--api-key", ""), 2, "--api-key")
        self.assert_refused(fails("--host", "no.such.host.invalid", "--api-key", "k"), 2, "no.such.host.invalid")
        with Server() as server:
            self.assert_refused(fails("--port", str(server.port)), 1, str(server.port), "another server")

    def test_from_outside(self):
        """An address is a name that nobody can point elsewhere; names have to be allowed."""
        with Server(["--host", "0.0.0.0", "--api-key", "k", "--allow-host", "Box.Example"]) as server:
            server.url = f"http://127.0.0.1:{server.port}"
            for host, status in (("192.168.7.7:1", 200), ("box.example", 200), ("localhost", 200),
                                 ("evil.example", 403)):
                self.assertEqual(server.request("/health", headers={"Host": host})[0], status, host)


class Origins(ServeTest):
    def test_cors_is_for_those_who_are_named(self):
        ours = "https://chat.example.org"
        with Server(["--allow-origin", ours, "--api-key", "k"]) as server:
            status, headers, _ = server.request(CHAT, method="OPTIONS", headers={
                "Origin": ours, "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type"})
            self.assertEqual(status, 204)
            self.assertEqual(headers["Access-Control-Allow-Origin"], ours)
            self.assertIn("POST", headers["Access-Control-Allow-Methods"])
            self.assertEqual(headers["Access-Control-Allow-Headers"], "authorization,content-type")
            status, headers, _ = server.request("/v1/models", headers={"Origin": ours, "x-api-key": "k"})
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (200, ours))
            self.assertEqual(headers["Vary"], "Origin")
            # A refusal must be readable there, too.
            status, headers, _ = server.request("/v1/models", headers={"Origin": ours})
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (401, ours))
            status, headers, _ = server.request("/v1/models", headers={"Origin": "https://x.org", "x-api-key": "k"})
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (403, None))

    def test_nobody_by_default(self):
        with Server() as server:
            _, headers, _ = server.request("/v1/models")
            self.assertIsNone(headers["Access-Control-Allow-Origin"])
            self.assertEqual(server.request("/v1/models", headers={"Origin": "https://x.org"})[0], 403)


@unittest.skipUnless(shutil.which("openssl"), "needs the openssl command")
class Tls(ServeTest):
    def certificate(self):
        cert, key = self.path("cert.pem"), self.path("key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
                        "-out", cert, "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        return cert, key

    def test_https(self):
        cert, key = self.certificate()
        with Server(["--tls-cert", cert, "--tls-key", key]) as server:
            self.assertTrue(server.url.startswith("https://"))
            trust = ssl.create_default_context(cafile=cert)
            body = json.dumps({**SUM, "stream": True}).encode()
            request = urllib.request.Request(server.url + CHAT, data=body, headers={"Content-Type": "application/json"})
            with urllib.request.urlopen(request, context=trust, timeout=PATIENCE) as answer:
                text = answer.read().decode()
            self.assertIn('"content":"5"', text)
            self.assertTrue(text.endswith("data: [DONE]\n\n"))
            with self.assertRaises(ssl.SSLError):
                ssl.create_default_context().wrap_socket(
                    socket.create_connection(("127.0.0.1", server.port)), server_hostname="localhost")
            # Who does not speak TLS gets nowhere, and disturbs nobody.
            with socket.create_connection(("127.0.0.1", server.port)) as plain:
                plain.settimeout(PATIENCE)
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                try:
                    self.assertNotIn(b"HTTP/1.1 200", plain.recv(1000))
                except ConnectionResetError:
                    pass
            with urllib.request.urlopen(server.url + "/health", context=trust, timeout=PATIENCE) as answer:
                self.assertEqual(answer.status, 200)

    def test_files_that_do_not_fit(self):
        cert, key = self.certificate()
        self.assert_refused(fails("--tls-cert", cert), 2, "--tls-key")
        self.assert_refused(fails("--tls-cert", cert, "--tls-key", self.path("nowhere")), 1, "nowhere")
        self.assert_refused(fails("--tls-cert", key, "--tls-key", cert, "--port", "0"), 2, "certificate")


class Logs(ServeTest):
    def test_json_lines(self):
        with Server(["--log-json"]) as server:
            server.json(CHAT, SUM, headers={"X-Request-Id": "r1"})
            server.wait_for_log("r1")
            server.request("/nowhere%22%0a", headers={"X-Request-Id": "r2"})
            server.wait_for_log("r2")
        lines = [json.loads(line) for line in server.log.splitlines()]
        ready = lines[0]
        self.assertEqual((ready["event"], ready["address"]), ("ready", server.url))
        self.assertGreater(ready["memory_bytes"], 1e6)
        first, second = [line for line in lines if line["event"] == "request"]
        self.assertEqual((first["id"], first["method"], first["path"], first["status"]), ("r1", "POST", CHAT, 200))
        self.assertEqual(first["answer_tokens"], 2)
        self.assertEqual((second["path"], second["status"]), ('/nowhere"\n', 404))
        self.assertEqual(lines[-1]["event"], "message")

    def test_start_tells_what_is_open(self):
        with Server() as server:
            self.assertRegex(server.log, r"memory: .* in all: weights .*, kv cache .* for 4 x \d+ tokens")
            self.assertIn("open to every program here", server.log)
        with Server(["--api-key", "k"]) as server:
            self.assertIn("an API key is needed", server.log)


class Ends(ServeTest):
    def begin(self, server, tokens):
        """A stream that has begun; what it brings until it ends goes to a list."""
        connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
        connection.request("POST", CHAT, json.dumps(long(tokens, stream=True)), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        pieces = [answer.readline()]

        def read():
            try:
                while piece := answer.readline():
                    pieces.append(piece)
            except (http.client.HTTPException, OSError):
                pieces.append(b"broken")
            connection.close()

        thread = threading.Thread(target=read)
        thread.start()
        return thread, pieces

    def test_running_answers_may_end(self):
        server = Server(endless())
        thread, pieces = self.begin(server, 700)
        idle = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
        idle.request("GET", "/health")
        idle.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        # Who is connected already is told; nobody new gets in.
        idle.request("GET", "/health")
        answer = idle.getresponse()
        self.assertEqual((answer.status, json.loads(answer.read())["status"]), (503, "stopping"))
        idle.close()
        with self.assertRaises(OSError):
            socket.create_connection((server.host, server.port), timeout=5)
        self.assertEqual(server.wait(), 0)
        thread.join(PATIENCE)
        self.assertEqual(pieces[-2], b"data: [DONE]\n", pieces[-3:])
        self.assertTrue(any(b'"finish_reason":"length"' in piece for piece in pieces))

    def test_they_are_cut_when_they_take_too_long(self):
        server = Server([*endless(), "--drain-timeout", "0.3"])
        thread, pieces = self.begin(server, 4000)
        server.stop()
        thread.join(PATIENCE)
        self.assertFalse(any(b"DONE" in piece for piece in pieces[:-3]))
        self.assertLess(len(pieces), 2 * 4000)

    def test_a_second_signal_ends_at_once(self):
        server = Server([*endless(), "--drain-timeout", "1000"])
        thread, _ = self.begin(server, 4000)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("stopping")
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.wait(20), 130)
        server.process = None
        thread.join(PATIENCE)

    def test_without_keys_in_a_file_hangup_ends_it(self):
        # Under nohup the tests themselves ignore it, and what they start inherits that.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        server = Server()
        signal.signal(signal.SIGHUP, before)
        server.process.send_signal(signal.SIGHUP)
        self.assertEqual(server.wait(), -signal.SIGHUP)
        server.process = None


if __name__ == "__main__":
    unittest.main()
