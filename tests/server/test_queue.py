# SPDX-License-Identifier: Apache-2.0
"""Scheduling: the same answers whoever else is served, fair turns, limits, cancellation, reuse."""
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import workload
from harness import CARAT, DEMO, Server

IS_SLOW = os.environ.get("CARAT_SANITIZE", "none") != "none"
SLOW_DISK = os.environ.get("CARAT_SLOW_DISK")


def metric(server, name):
    text = server.request("/metrics")[2].decode()
    return float(re.search(r"^" + re.escape(name) + r"\S* (\S+)$", text, re.M).group(1))


def outcome(server, how):
    text = server.request("/metrics")[2].decode()
    return float(re.search(rf'^carat_requests_total{{.*outcome="{how}"}} (\S+)$', text, re.M).group(1))


def wait_until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not after {seconds} s: {what}")
        time.sleep(0.01)


def chat(text, **more):
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}


def _no_end():
    """A bias against every token that ends a turn."""
    texts = "<turn|><eos><|tool_response>"
    found = subprocess.run([CARAT, "tokenize", DEMO, texts, "--special"], capture_output=True, check=True)
    tokens = found.stdout.split()
    assert len(tokens) == 3, found.stdout
    return {token.decode(): -100 for token in tokens}


NO_END = _no_end()


def endless(**more):
    """A request whose answer only ends when something ends it."""
    return chat("Hello", logit_bias=NO_END, **{"max_tokens": 4000, **more})


class Client(threading.Thread):
    """One request in the background: its status, headers and body, and when the answer ended."""

    def __init__(self, server, body, path="/v1/chat/completions", headers=None):
        super().__init__(daemon=True)
        self.server, self.body, self.path, self.sent = server, body, path, headers or {}
        self.start()

    def run(self):
        self.status, self.headers, self.data = self.server.request(self.path, self.body, self.sent, timeout=300)
        self.ended = time.monotonic()

    def json(self, status=200):
        self.join(300)
        assert self.status == status, f"expected {status}, found {self.status}: {self.data[:1000]!r}"
        return json.loads(self.data)


class Stream:
    """A stream that is read by hand, and can be left."""

    def __init__(self, server, body):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self.connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}),
                                {"Content-Type": "application/json"})
        self.answer = self.connection.getresponse()

    def read_line(self):
        return self.answer.readline()

    def wait_for_text(self):
        while b'"content":"' not in self.read_line().replace(b'"content":""', b""):
            pass

    def rest(self):
        data = self.answer.read()
        self.close()
        return data

    def close(self):
        # An answer whose end was not read keeps the socket to itself.
        self.answer.close()
        self.connection.close()


class SameAnswers(unittest.TestCase):
    """Each answer equals that of the only client of another server."""

    def test_beside_others(self):
        asks = workload.make_asks(seed=4, n=60 if IS_SLOW else 160)
        extra = [a for a in workload.make_asks(seed=4, dialects=("chat",))
                 if a.body.keys() & {"n", "logprobs", "response_format", "stop", "tool_choice"}]
        self.assertGreaterEqual(len(extra), 5)
        asks += extra
        with Server(["--parallel", "1"]) as server:
            twins = {a.key: workload.run(server.url, a) for a in asks}
        kinds = json.dumps(list(twins.values()))
        self.assertIn('"stop"', kinds)
        self.assertIn("tool_calls", kinds)
        with Server(["--parallel", "5"]) as server:
            self.serve_all(server, asks, twins)
            wait_until("all slots free", lambda: metric(server, "carat_requests_running") == 0)
            self.assertGreater(outcome(server, "cancelled"), 0)
            self.assertEqual(outcome(server, "failed"), 0)
            self.assertGreater(metric(server, "carat_cached_tokens_total"), 0)

    def serve_all(self, server, asks, twins):
        todo = asks * 2
        random.Random(1).shuffle(todo)
        lock = threading.Lock()
        wrong = []

        def client(number):
            rng = random.Random(number)
            while True:
                with lock:
                    if not todo:
                        return
                    ask = todo.pop()
                cancel = rng.choice([None, None, None, None, 0, 1, 300, 900])
                try:
                    found = workload.run(server.url, ask, cancel)
                    if found != twins[ask.key]:
                        wrong.append(f"{ask}\nalone  {twins[ask.key]}\nbeside {found}")
                except workload.Cancelled:
                    pass
                except Exception as error:  # a thread: told by the main one
                    wrong.append(f"{ask}: {error!r}")
        threads = [threading.Thread(target=client, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_choices_have_their_own_seeds(self):
        body = chat("Tell me something.", temperature=1.5, seed=3, n=4, max_tokens=40)
        with Server(["--parallel", "2"]) as server:
            several = [c["message"]["content"] for c in server.json("/v1/chat/completions", body)["choices"]]
            one = server.json("/v1/chat/completions", {**body, "n": 1})
            self.assertEqual(one["choices"][0]["message"]["content"], several[0])
            again = [c["message"]["content"] for c in server.json("/v1/chat/completions", body)["choices"]]
            self.assertEqual(several, again)
            self.assertGreater(len(set(several)), 1)


class Turns(unittest.TestCase):
    def test_full_queue_refuses(self):
        with Server(["--parallel", "1", "--queue", "2", "--no-loop-guard"]) as server:
            first = Stream(server, endless())
            first.wait_for_text()
            waiting = [Client(server, chat("Hello")) for _ in range(2)]
            wait_until("two wait", lambda: metric(server, "carat_requests_waiting") == 2)
            status, headers, body = server.request("/v1/chat/completions", chat("Hello"))
            self.assertEqual(status, 429)
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            self.assertIn("2 wait", json.loads(body)["error"]["message"])
            first.close()
            for client in waiting:
                self.assertEqual(client.json()["choices"][0]["finish_reason"], "stop")
            self.assertEqual(server.json("/v1/chat/completions", chat("Hello"))["object"],
                             "chat.completion")

    def test_streams_go_on_beside_a_long_prompt(self):
        words = " ".join(f"word{i}" for i in range(800))
        with Server(["--parallel", "3", "--no-loop-guard"]) as server:
            stream = Stream(server, endless(max_tokens=3000))
            stream.wait_for_text()
            long = Client(server, chat(words, max_tokens=1))
            short = Client(server, chat("Hello", max_tokens=1))
            short.json()
            used = long.json()["usage"]["prompt_tokens"]
            self.assertGreater(used, 1500)
            stream.wait_for_text() # still there
            stream.close()

    def test_a_short_prompt_overtakes_long_ones(self):
        with Server(["--parallel", "4"]) as server:
            long = [Client(server, chat(f"{i} " + " ".join(f"{w * (i + 3)}" for w in range(600)),
                                        max_tokens=1)) for i in range(3)]
            short = Client(server, chat("Hello", max_tokens=1))
            short.json()
            for client in long:
                self.assertGreater(client.json()["usage"]["prompt_tokens"], 1500)
            self.assertLess(short.ended, max(c.ended for c in long))

    def test_choices_leave_room_for_others(self):
        with Server(["--parallel", "2", "--no-loop-guard"]) as server:
            many = Client(server, endless(n=8, max_tokens=300 if IS_SLOW else 1000))
            wait_until("it runs", lambda: metric(server, "carat_requests_running") == 1)
            one = Client(server, chat("Hello"))
            one.json()
            self.assertEqual(len(many.json()["choices"]), 8)
            self.assertLess(one.ended, many.ended)


class Limits(unittest.TestCase):
    def test_a_prompt_too_long_is_refused_before_it_is_read(self):
        with Server() as server:
            error = server.json("/v1/chat/completions", chat("word " * 6000), status=400)["error"]
            self.assertIn("4096", error["message"])
            numbers = [int(n) for n in re.findall(r"\d{4,}", error["message"])]
            self.assertTrue(any(n > 6000 for n in numbers), error["message"])
            self.assertEqual(metric(server, "carat_answer_tokens_total"), 0)

    def test_a_full_context_ends_the_answer(self):
        with Server(["--no-loop-guard", "--context", "256"]) as server:
            answer = server.json("/v1/chat/completions", endless())
            self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            usage = answer["usage"]
            self.assertEqual(usage["prompt_tokens"] + usage["completion_tokens"], 257)

    def test_a_loop_ends_the_answer(self):
        with Server() as server:
            answer = server.json("/v1/chat/completions", endless())
            self.assertLess(answer["usage"]["completion_tokens"], 3900)

    def test_time_is_up(self):
        with Server(["--parallel", "1", "--timeout", "1", "--no-loop-guard"]) as server:
            body = endless(temperature=1, seed=1)
            running = Client(server, body)
            wait_until("it runs", lambda: metric(server, "carat_requests_running") == 1)
            # Their time is up before the slot is free.
            waiting = [Client(server, body, headers={"X-Request-Timeout": "0.2"}) for _ in range(3)]
            answer = running.json()
            self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            for client in waiting:
                self.assertIn("time limit", client.json(503)["error"]["message"])
                self.assertEqual(client.headers["Retry-After"], "1")

    def test_thoughts_have_a_limit(self):
        question = [{"role": "user", "content": "What is 8 plus 2?"}]
        body = {"messages": question, "temperature": 0, "reasoning_effort": "high"}
        with Server() as server:
            free = server.json("/v1/chat/completions", body)
            short = server.json("/v1/chat/completions", {**body, "thinking_token_budget": 3})
        def thought(answer):
            return answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
        self.assertGreater(thought(free), 6)
        self.assertEqual(thought(short), 4) # the marker that closes it is one more
        self.assertEqual(short["choices"][0]["finish_reason"], "stop")
        self.assertTrue(short["choices"][0]["message"]["content"])


class Cancelling(unittest.TestCase):
    def test_a_client_that_leaves_frees_its_slot(self):
        with Server(["--parallel", "1", "--no-loop-guard"]) as server:
            for is_stream in (True, False):
                before = outcome(server, "cancelled")
                body = endless()
                if is_stream:
                    stream = Stream(server, body)
                    stream.wait_for_text()
                    stream.close()
                else:
                    connection = http.client.HTTPConnection("127.0.0.1", server.port)
                    connection.request("POST", "/v1/chat/completions", json.dumps(body),
                                       {"Content-Type": "application/json"})
                    wait_until("it runs", lambda: metric(server, "carat_requests_running") == 1)
                    connection.close()
                wait_until("it is cancelled", lambda: outcome(server, "cancelled") == before + 1, 30)
                made = metric(server, "carat_answer_tokens_total")
                self.assertLess(made, 3900) # both together: neither went on to its end
                answer = server.json("/v1/chat/completions", chat("Hello"))
                self.assertEqual(answer["choices"][0]["finish_reason"], "stop")

    def test_a_waiting_client_that_leaves_is_forgotten(self):
        with Server(["--parallel", "1", "--no-loop-guard"]) as server:
            stream = Stream(server, endless())
            stream.wait_for_text()
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("POST", "/v1/chat/completions", json.dumps(chat("Hello")),
                               {"Content-Type": "application/json"})
            wait_until("it waits", lambda: metric(server, "carat_requests_waiting") == 1)
            connection.close()
            wait_until("it is gone", lambda: metric(server, "carat_requests_waiting") == 0, 30)
            stream.close()

    def test_the_end_lets_streams_end(self):
        server = Server(["--no-loop-guard"])
        self.addCleanup(server.kill)
        stream = Stream(server, endless(max_tokens=500))
        stream.wait_for_text()
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        rest = stream.rest()
        stopper.join()
        self.assertIn(b'"finish_reason":"length"', rest)
        self.assertIn(b"[DONE]", rest)

    def test_the_end_cuts_what_takes_too_long(self):
        server = Server(["--no-loop-guard", "--drain-timeout", "0.05", "--parallel", "1"])
        self.addCleanup(server.kill)
        stream = Stream(server, endless())
        stream.wait_for_text()
        waiting = Client(server, chat("Hello"))
        wait_until("it waits", lambda: metric(server, "carat_requests_waiting") == 1)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        rest = stream.rest()
        self.assertIn(b"about to end", rest)
        self.assertIn("about to end", waiting.json(503)["error"]["message"])
        stopper.join()


class Reuse(unittest.TestCase):
    def say(self, server, messages, **more):
        answer = server.json("/v1/chat/completions", {"messages": messages, "temperature": 0, **more})
        message = answer["choices"][0]["message"]
        usage = answer["usage"]
        return message, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    def test_a_second_turn_reads_only_what_is_new(self):
        messages = [{"role": "user", "content": "What is the capital of France? " * 8}]
        with Server() as server:
            answer, n_first, cached = self.say(server, messages)
            self.assertEqual(cached, 0)
            messages += [{"role": "assistant", "content": answer["content"]},
                         {"role": "user", "content": "And of Spain?"}]
            _, n_second, cached = self.say(server, messages)
            self.assertGreaterEqual(cached, n_first - 8) # the opening of the answer differs
            self.assertLess(cached, n_second)

    def test_thoughts_left_out_spare_what_was_before_them(self):
        messages = [{"role": "user", "content": "What is 8 plus 2? " * 10}]
        with Server() as server:
            answer, n_first, _ = self.say(server, messages, reasoning_effort="high")
            self.assertTrue(answer["reasoning_content"])
            messages += [{"role": "assistant", "content": answer["content"]},
                         {"role": "user", "content": "What is 3 plus 4?"}]
            _, _, cached = self.say(server, messages, reasoning_effort="high")
            self.assertGreaterEqual(cached, n_first - 8)

    def test_an_answer_of_any_length_may_come_back_otherwise(self):
        # Longer than the sliding window and all that a conversation can be cut back by.
        messages = [{"role": "user", "content": "Tell me something. " * 30}]
        with Server() as server:
            _, n_first, _ = self.say(server, messages, max_tokens=1500, logit_bias=NO_END)
            messages += [{"role": "assistant", "content": "No."}, {"role": "user", "content": "Why?"}]
            _, _, cached = self.say(server, messages, max_tokens=4)
            self.assertGreaterEqual(cached, n_first - 8)

    def test_a_head_that_changes_costs_what_is_behind_it(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        with Server(["--cache-dir", folder, "--parallel", "1"]) as server:
            found = []
            for day in range(4):
                messages = [{"role": "system", "content": "You are helpful. " * 40 + f"Today is day {day}. " + "Be brief. " * 300},
                            {"role": "user", "content": "Hello"}]
                _, n, cached = self.say(server, messages, max_tokens=2)
                found.append(cached)
            self.assertGreater(n, 1000) # no window is left where the prompts part
            self.assertGreaterEqual(min(found[2:]), 150, found)

    def test_a_call_comes_back_as_it_was_sampled(self):
        tool = {"type": "function", "function": {"name": "get_weather", "description": "Get the weather of a city.",
                "parameters": {"type": "object", "required": ["city"], "properties": {
                    "city": {"type": "string", "description": "The city."}}}}}
        messages = [{"role": "user", "content": "How is the weather in Oslo?"}]
        with Server() as server:
            answer, n_first, _ = self.say(server, messages, tools=[tool], reasoning_effort="high")
            call = answer["tool_calls"][0]
            self.assertRegex(call["id"], r"^call_[A-Za-z0-9]{24}$")
            messages += [answer, {"role": "tool", "tool_call_id": call["id"], "content": "rain"}]
            _, _, cached = self.say(server, messages, tools=[tool], reasoning_effort="high")
            self.assertGreater(cached, n_first) # the call itself was not read again

    def test_choices_read_their_prompt_once(self):
        with Server(["--parallel", "4"]) as server:
            body = chat("Tell me. " * 40, n=4, max_tokens=4)
            usage = server.json("/v1/chat/completions", body)["usage"]
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)
            self.assertGreaterEqual(metric(server, "carat_cache_live_hits_total"), 3)

    def test_a_restart_keeps_what_was_read(self):
        folder = tempfile.mkdtemp()
        try:
            messages = [{"role": "user", "content": "What is the capital of France? " * 20}]
            with Server(["--cache-dir", folder]) as server:
                first, n, _ = self.say(server, messages)
            with Server(["--cache-dir", folder]) as server:
                second, _, cached = self.say(server, messages)
                self.assertGreaterEqual(cached, n - 8)
                self.assertEqual(first["content"], second["content"])
        finally:
            shutil.rmtree(folder)


class Places(unittest.TestCase):
    """What is wrong with a schema is named by where it stands in the request."""

    BAD = {"type": "object", "properties": {"x": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?=a)b"}]}}}
    # Of tools, what cannot be honoured is passed over; limits are not.
    LONG = {"type": "object", "properties": {"x": {"allOf": [{"minLength": i} for i in range(70)]}}}
    TAIL = ".properties.x.anyOf[1].pattern: at byte 2 of the regular expression: "

    def error(self, path, body):
        status, _, data = self.server.request(path, body)
        self.assertIn(status, (400, 413), data)
        error = json.loads(data)["error"]
        return error if isinstance(error, str) else error["message"]

    def test_in_every_dialect(self):
        user = [{"role": "user", "content": "x"}]
        contents = [{"parts": [{"text": "x"}]}]
        named = {"type": "json_schema", "name": "a", "schema": self.BAD}
        upper = json.loads(json.dumps(self.BAD).replace('"string"', '"STRING"'))
        chat, gemini = "/v1/chat/completions", "/v1beta/models/m:generateContent"
        with Server() as self.server:
            for path, body, place in (
                    (chat, {"messages": user, "response_format": {"type": "json_schema", "json_schema": named}},
                     "response_format.json_schema.schema"),
                    (chat, {"messages": user, "structured_outputs": {"json": self.BAD}}, "structured_outputs.json"),
                    (chat, {"messages": user, "guided_json": self.BAD}, "guided_json"),
                    ("/v1/responses", {"input": "x", "text": {"format": named}}, "text.format.schema"),
                    ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": user, "output_config": {"format": named}},
                     "output_config.format.schema"),
                    ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": user, "output_format": named},
                     "output_format.schema"),
                    ("/api/chat", {"model": "m", "messages": user, "format": self.BAD}, "format"),
                    (gemini, {"contents": contents, "generationConfig": {
                        "responseMimeType": "application/json", "responseSchema": upper}}, "generationConfig.responseSchema"),
                    (gemini, {"contents": contents, "generationConfig": {
                        "responseMimeType": "application/json", "responseJsonSchema": self.BAD}},
                     "generationConfig.responseJsonSchema")):
                message = self.error(path, body)
                self.assertTrue(message.startswith(place + self.TAIL), f"{path}: {message}")
            message = self.error(chat, {"messages": user, "guided_regex": "(?=a)"})
            self.assertTrue(message.startswith("guided_regex: at byte 2 "), message)

    def test_in_strict_tools(self):
        """What cannot be honoured is passed over, unless the tool asks for the letter."""
        user = [{"role": "user", "content": "x"}]
        with Server() as self.server:
            for strict in (True, False, None):
                more = {} if strict is None else {"strict": strict}
                function = {"name": "f", "description": "d", "parameters": self.BAD, **more}
                wrapped = [{"type": "function", "function": function}]
                for path, body, place in (
                        ("/v1/chat/completions", {"messages": user, "max_tokens": 2, "tools": wrapped}, "tools[0].function.parameters"),
                        ("/v1/responses", {"input": "x", "max_output_tokens": 2, "tools": [{"type": "function", **function}]},
                         "tools[0].parameters"),
                        ("/v1/messages", {"model": "m", "max_tokens": 2, "messages": user, "tools": [
                            {"name": "f", "description": "d", "input_schema": self.BAD, **more}]}, "tools[0].input_schema"),
                        ("/api/chat", {"model": "m", "messages": user, "options": {"num_predict": 2}, "stream": False,
                                       "tools": wrapped}, "tools[0].function.parameters")):
                    if strict:
                        message = self.error(path, body)
                        self.assertTrue(message.startswith(place + self.TAIL), f"{path}: {message}")
                    else:
                        status, _, data = self.server.request(path, body)
                        self.assertEqual(status, 200, f"{path}: {data}")

    def test_in_tools(self):
        user = [{"role": "user", "content": "x"}]
        good = {"type": "object", "properties": {"x": {"type": "string"}}}

        def functions(key, **more):
            return [{"name": "f", "description": "d", key: good, **more}, {"name": "g", "description": "d", key: self.LONG, **more}]

        with Server() as self.server:
            for path, body, place in (
                    ("/v1/chat/completions", {"messages": user, "tools": [
                        {"type": "function", "function": f} for f in functions("parameters")]}, "tools[1].function.parameters"),
                    ("/v1/chat/completions", {"messages": user, "functions": functions("parameters")}, "functions[1].parameters"),
                    ("/v1/responses", {"input": "x", "tools": [
                        {"type": "web_search"}, *functions("parameters", type="function")]}, "tools[2].parameters"),
                    ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": user, "tools": functions("input_schema")},
                     "tools[1].input_schema"),
                    ("/api/chat", {"model": "m", "messages": user, "tools": [
                        {"type": "function", "function": f} for f in functions("parameters")]}, "tools[1].function.parameters"),
                    ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "x"}]}], "tools": [
                        {"functionDeclarations": functions("parameters")}]}, "tools[0].functionDeclarations[1].parameters")):
                message = self.error(path, body)
                self.assertTrue(message.startswith(place + ".properties.x.allOf["), f"{path}: {message}")
                self.assertTrue(message.endswith(": more than 64 schemas for one value"), f"{path}: {message}")


class OwnLimits(unittest.TestCase):
    """A request that says how long it may take."""

    def ask(self, server, body, **headers):
        begin = time.monotonic()
        found = server.request("/v1/chat/completions", body, {name.replace("_", "-"): v for name, v in headers.items()})
        return found[0], found[2], time.monotonic() - begin

    def test_it_ends_where_it_says(self):
        with Server(["--no-loop-guard"]) as server:
            for name in ("X_Request_Timeout", "x_server_timeout"):
                status, data, seconds = self.ask(server, endless(max_tokens=3900), **{name: "0.01"})
                if status == 200: # else the machine was too slow for a first token
                    choice = json.loads(data)["choices"][0]
                    self.assertEqual(choice["finish_reason"], "length")
                    self.assertLess(json.loads(data)["usage"]["completion_tokens"], 3800)
                else:
                    self.assertIn(status, (503, 504))
            self.assertEqual(self.ask(server, chat("Hello", max_tokens=2), X_Request_Timeout="300")[0], 200)

    def test_the_server_s_own_limit_stays(self):
        with Server(["--no-loop-guard", "--timeout", "0.01"]) as server:
            status, data, _ = self.ask(server, endless(max_tokens=3900), X_Request_Timeout="100000")
            if status == 200:
                self.assertLess(json.loads(data)["usage"]["completion_tokens"], 3800)
            else:
                self.assertIn(status, (503, 504))

    def test_what_is_no_time_is_refused(self):
        with Server() as server:
            for text in ("0", "-1", "soon", "1e9", "1.2.3", "", ".", ".5", "1" * 40, "nan", "5s"):
                status, data, _ = self.ask(server, chat("Hello", max_tokens=2), X_Request_Timeout=text)
                self.assertEqual(status, 400, text)
                self.assertIn("X-Request-Timeout: expected seconds", json.loads(data)["error"]["message"])
            for path, body in (("/v1/messages", {"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}),
                               ("/api/chat", {"model": "m", "messages": [{"role": "user", "content": "Hi"}]})):
                status, _, data = server.request(path, body, {"X-Request-Timeout": "x"})
                self.assertEqual(status, 400)
                json.loads(data)


class Embeddings(unittest.TestCase):
    TEXT = "A spider has eight legs and an ant has six. " * 120

    def embed(self, server, text):
        return server.json("/v1/embeddings", {"input": text, "model": "m"})["data"][0]["embedding"]

    def test_streams_go_on_beside_a_long_text(self):
        with Server(["--parallel", "2"]) as server:
            alone = self.embed(server, self.TEXT)
        with Server(["--parallel", "2", "--chunk", "16"]) as server:
            for attempt in range(20): # the machine may have been elsewhere
                stream = Stream(server, endless())
                stream.wait_for_text()
                client = Client(server, {"input": self.TEXT, "model": "m"}, path="/v1/embeddings")
                wait_until("it is being read", lambda: not client.is_alive() or metric(server, "carat_requests_running") == 2)
                n_lines = 0
                while client.is_alive():
                    line = stream.read_line()
                    n_lines += line.startswith(b"data:")
                    if not line:
                        break # it came to its own end
                stream.close()
                self.assertEqual(client.json()["data"][0]["embedding"], alone)
                if n_lines >= 10:
                    break
            else:
                self.fail("the stream stood still")

    def test_what_makes_room_for_one_is_kept(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        body = chat("What is the capital of France? " * 20, max_tokens=4)
        with Server(["--parallel", "1", "--cache-dir", folder]) as server:
            server.json("/v1/chat/completions", body)
            self.embed(server, self.TEXT)
            self.assertEqual(metric(server, "carat_cache_snapshots"), 1)
            usage = server.json("/v1/chat/completions", body)["usage"]
            self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], 100)


class DefaultFolder(unittest.TestCase):
    """Without --cache-dir conversations are kept in the user's own folder."""

    def setUp(self):
        self.home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.home)

    def server(self, *args, **env):
        return Server(list(args), env={"CARAT_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": self.home, **env})

    def say(self, server):
        usage = server.json("/v1/chat/completions", chat("What is the capital of France? " * 20, max_tokens=4))["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    def kept(self, folder):
        names = [name for name in os.listdir(folder) if name.endswith(".kv")]
        for path in [folder, os.path.dirname(folder)] + [os.path.join(folder, name) for name in names]:
            self.assertEqual(os.stat(path).st_mode & 0o077, 0, path)
        return len(names)

    @unittest.skipUnless(sys.platform == "linux", "another folder elsewhere")
    def test_a_restart_finds_them_below_home(self):
        folder = os.path.join(self.home, ".cache", "carat", "snapshots")
        with self.server() as server:
            self.assertIn(f"[conversations are kept in {folder}: 0 B now, ", server.log)
            self.assertEqual(self.say(server), 0)
        self.assertEqual(self.kept(folder), 1)
        with self.server() as server:
            self.assertNotIn(": 0 B now", server.log)
            self.assertGreater(self.say(server), 100)

    def test_the_system_may_name_another(self):
        named = os.path.join(self.home, "named")
        with self.server("--log-json", XDG_CACHE_HOME=named) as server:
            ready = json.loads(next(line for line in server.log.splitlines() if '"event":"ready"' in line))
            folder = os.path.join(named, "carat", "snapshots")
            self.assertEqual(ready["cache_folder"], folder)
            free = os.statvfs(folder)
            self.assertLessEqual(ready["cache_bytes_max"], 8 << 30)
            self.assertLess(ready["cache_bytes_max"], free.f_bavail * free.f_frsize / 5)
            self.say(server)
        self.assertEqual(self.kept(folder), 1)
        self.assertEqual(os.listdir(self.home), ["named"])

    def test_none_is_none(self):
        for args, env in ((["--cache-dir", "none"], {}), ([], {"CARAT_CACHE_DIR": "none"})):
            with self.server(*args, **env) as server:
                self.assertIn("[conversations are not kept on disk]", server.log)
                self.say(server)
            self.assertEqual(os.listdir(self.home), [])

    def test_a_home_that_cannot_be_written_is_a_warning(self):
        path = os.path.join(self.home, "file")
        open(path, "w").close()
        for home in (path, ""):
            with self.server(HOME=home) as server:
                self.assertRegex(server.log, "warning: .*conversations are not kept on disk")
                self.assertIn("[conversations are not kept on disk]", server.log)
                self.say(server)
        # A folder that somebody asked for is another matter.
        done = subprocess.run([CARAT, "serve", DEMO, "--port", "0", "--config", "", "--cache-dir", path + "/below"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"the folder cannot be made", done.stderr)


@unittest.skipUnless(SLOW_DISK and not IS_SLOW, "needs a library that is loaded before all others")
class SlowDisk(unittest.TestCase):
    """While HOLD is there, nothing is written to a snapshot: others go on."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.hold_file = os.path.join(self.folder, "hold")
        self.held_file = os.path.join(self.folder, "held")
        self.cache = os.path.join(self.folder, "cache")

    def server(self, *args):
        return Server(["--parallel", "2", "--cache-dir", self.cache, *args],
                      env={"LD_PRELOAD": SLOW_DISK, "CARAT_TEST_HOLD": self.hold_file,
                           "CARAT_TEST_HELD": self.held_file})

    def hold(self):
        open(self.hold_file, "w").close()

    def let_go(self):
        os.unlink(self.hold_file)

    def wait_until_held(self):
        wait_until("a snapshot is being written", lambda: os.path.exists(self.held_file))

    def alone(self, body):
        with Server() as server:
            return server.json("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def test_others_go_on_while_a_conversation_is_written(self):
        first = chat("What is the capital of France? " * 20, max_tokens=8)
        second = chat("How many legs does a spider have? " * 20, max_tokens=8)
        third = chat("Name a colour of the rainbow. " * 20, max_tokens=8)
        with self.server() as server:
            server.json("/v1/chat/completions", first)
            answer = server.json("/v1/chat/completions", second)
            self.hold()
            evicting = Client(server, third)  # takes the first one's slot, which has to be kept
            self.wait_until_held()
            # The second conversation goes on, as a stream and whole, and so does all the rest.
            message = answer["choices"][0]["message"]
            more = {**second, "messages": second["messages"] + [
                {"role": "assistant", "content": message["content"]}, {"role": "user", "content": "And an ant?"}]}
            again = server.json("/v1/chat/completions", more)
            self.assertGreater(again["usage"]["prompt_tokens_details"]["cached_tokens"], 100)
            stream = Stream(server, {**more, "max_tokens": 8})
            self.assertIn(b"[DONE]", stream.rest())
            self.assertEqual(server.request("/health")[0], 200)
            self.assertTrue(evicting.is_alive())
            self.let_go()
            found = evicting.json()["choices"][0]["message"]["content"]
            self.assertEqual(metric(server, "carat_cache_snapshots"), 1)
            # Its conversation is found on the disk.
            back = server.json("/v1/chat/completions", first)
            self.assertGreater(back["usage"]["prompt_tokens_details"]["cached_tokens"], 100)
        self.assertEqual(found, self.alone(third))

    def test_who_leaves_while_the_disk_is_slow(self):
        first = chat("What is the capital of France? " * 20, max_tokens=8)
        with self.server("--parallel", "1") as server:
            server.json("/v1/chat/completions", first)
            self.hold()
            stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
            stream.request("POST", "/v1/chat/completions", json.dumps({**endless(), "stream": True}),
                           {"Content-Type": "application/json"})
            self.wait_until_held()
            stream.close()
            waiting = Client(server, first)
            wait_until("the next one waits", lambda: metric(server, "carat_requests_waiting") == 1)
            self.let_go()
            waiting.json()
            self.assertEqual(outcome(server, "cancelled"), 1)

    def test_the_end_waits_for_the_disk(self):
        first = chat("What is the capital of France? " * 20, max_tokens=8)
        with self.server("--parallel", "1", "--drain-timeout", "1") as server:
            server.json("/v1/chat/completions", first)
            self.hold()
            client = Client(server, chat("Name a colour of the rainbow. " * 20))
            self.wait_until_held()
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("stopping")
            time.sleep(1.5)  # the answer had its time
            self.assertIsNone(server.process.poll())
            self.let_go()
            client.join(60)
            self.assertEqual(client.status, 503)
            self.assertEqual(server.wait(), 0)
            server.process = None
        with self.server() as server:
            back = server.json("/v1/chat/completions", first)
            self.assertGreater(back["usage"]["prompt_tokens_details"]["cached_tokens"], 100)


if __name__ == "__main__":
    unittest.main()
