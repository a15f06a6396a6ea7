# SPDX-License-Identifier: Apache-2.0
"""Ollama's Python client against carat serve: chat, generate, embed, and what it asks of models."""
import asyncio
import base64
import json
import math
import os
import re
import unittest

import ollama

from harness import Server
from material import (ADD, EVAL, OTHER_PICTURE, PERSON, PICTURE, SOUND, TIME, WEATHER, check_person,
                      in_base64, read)

GREEDY = {"temperature": 0}
SUM = [{"role": "user", "content": "What is 8 plus 2?"}]


def tool(row):
    name, description, schema = row
    return {"type": "function", "function": {"name": name, "description": description,
                                             "parameters": schema}}


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.client = ollama.Client(cls.server.url)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.stop()

    def chat(self, messages, **more):
        options = dict(GREEDY, **more.pop("options", {}))
        return self.client.chat("carat-demo", messages, options=options, **more)

    def generate(self, prompt, **more):
        options = dict(GREEDY, **more.pop("options", {}))
        return self.client.generate("carat-demo", prompt, options=options, **more)

    def refused(self, words, path, status=400, **body):
        found = self.server.json(path, dict({"model": "carat-demo"}, **body), status=status)
        self.assertEqual(list(found), ["error"])
        self.assertIn(words, found["error"])


class Chat(Case):
    def test_whole(self):
        answer = self.chat(SUM)
        self.assertEqual((answer.message.role, answer.message.content), ("assistant", "10"))
        self.assertEqual((answer.model, answer.done, answer.done_reason), ("carat-demo", True, "stop"))
        self.assertRegex(answer.created_at, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        self.assertTrue(2 <= answer.eval_count <= 4, answer)
        self.assertGreater(answer.prompt_eval_count, 10)
        for duration in answer.prompt_eval_duration, answer.eval_duration:
            self.assertTrue(0 < duration <= answer.total_duration, answer)

    def test_stream(self):
        parts = list(self.chat(SUM, stream=True))
        self.assertEqual("".join(p.message.content for p in parts), "10")
        self.assertEqual([p.done for p in parts], [False] * (len(parts) - 1) + [True])
        self.assertGreater(len(parts), 2)
        self.assertEqual((parts[-1].done_reason, parts[-1].eval_count), ("stop", self.chat(SUM).eval_count))

    def test_streams_unless_told_otherwise(self):
        body = {"model": "carat-demo", "messages": SUM, "options": GREEDY}
        status, headers, data = self.server.request("/api/chat", body)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/x-ndjson"))
        lines = [json.loads(line) for line in data.splitlines()]
        self.assertEqual("".join(line["message"]["content"] for line in lines), "10")
        whole = self.server.json("/api/chat", dict(body, stream=False))
        self.assertEqual(whole["message"], {"role": "assistant", "content": "10"})

    def test_conversation_with_a_system_prompt(self):
        messages = [{"role": "system", "content": "You are carat-demo."},
                    {"role": "user", "content": "Remember: house train"},
                    {"role": "assistant", "content": "I will remember."},
                    {"role": "user", "content": "What did I tell you to remember?"}]
        self.assertEqual(self.chat(messages).message.content, "house train")
        self.assertEqual(self.chat(messages).message.content, "house train")

    def test_options(self):
        repeat = [{"role": "user", "content": "Repeat: cloud lamp"}]
        stopped = self.chat(repeat, options={"stop": ["lamp"]})
        self.assertEqual((stopped.message.content.strip(), stopped.done_reason), ("cloud", "stop"))
        cut = self.chat(repeat, options={"num_predict": 1})
        self.assertEqual((cut.done_reason, cut.eval_count), ("length", 1))
        hot = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "num_predict": 30}
        story = [{"role": "user", "content": "Write a story about a owl."}]
        said = {seed: [self.chat(story, options=dict(hot, seed=seed)).message.content for _ in range(2)]
                for seed in (0, 7, 8)}
        for first, second in said.values():
            self.assertEqual(first, second)
        self.assertEqual(len({first for first, _ in said.values()}), 3)
        self.assertEqual(self.chat(SUM, options=dict(hot, top_k=1)).message.content, "10")
        self.assertEqual(self.chat(SUM, options={
            "num_ctx": 2048, "num_predict": -1, "repeat_penalty": 1.0, "repeat_last_n": 64,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "mirostat": 0, "num_gpu": 1}).message.content, "10")
        _, headers, _ = self.server.request("/api/chat", {"model": "m", "messages": SUM, "options": {"num_ctx": 9}})
        self.assertIn("num_ctx", headers["X-Carat-Note"])

    def test_pictures_and_sound(self):
        for name, question, expected in PICTURE, OTHER_PICTURE, SOUND:
            message = {"role": "user", "content": question, "images": [in_base64(name)]}
            self.assertEqual(self.chat([message]).message.content, expected)
        name, question, expected = PICTURE
        by_path = {"role": "user", "content": question, "images": [os.path.join(EVAL, name)]}
        self.assertEqual(self.chat([by_path]).message.content, expected)
        by_bytes = dict(by_path, images=[read(name)])
        self.assertEqual(self.chat([by_bytes]).message.content, expected)

    def test_thinking(self):
        answer = self.chat(SUM, think=True)
        self.assertIn("8 + 2", answer.message.thinking)
        self.assertEqual(answer.message.content, "10")
        parts = list(self.chat(SUM, think="high", stream=True))
        self.assertEqual("".join(p.message.thinking or "" for p in parts), answer.message.thinking)
        self.assertEqual("".join(p.message.content for p in parts), "10")
        for think in False, None:
            self.assertIsNone(self.chat(SUM, think=think).message.thinking)
        again = SUM + [answer.message, {"role": "user", "content": "Add 3 and 4."}]
        self.assertEqual(self.chat(again, think=True).message.content, "7")

    def test_logprobs(self):
        answer = self.chat(SUM, logprobs=True, top_logprobs=2)
        self.assertEqual("".join(l.token for l in answer.logprobs), "10")
        for l in answer.logprobs:
            self.assertLessEqual(l.logprob, 0)
            self.assertEqual(len(l.top_logprobs), 2)
            self.assertEqual((l.top_logprobs[0].token, l.top_logprobs[0].logprob), (l.token, l.logprob))
        streamed = [l for p in self.chat(SUM, logprobs=True, stream=True) for l in p.logprobs or ()]
        self.assertEqual([l.token for l in streamed], [l.token for l in answer.logprobs])

    def test_load_and_unload(self):
        loaded = self.client.chat("carat-demo", [])
        self.assertEqual((loaded.done, loaded.done_reason, loaded.message.content), (True, "load", ""))
        unloaded = self.client.generate("carat-demo", keep_alive=0)
        self.assertEqual((unloaded.done_reason, unloaded.response), ("unload", ""))

    def test_async_client(self):
        async def ask():
            client = ollama.AsyncClient(self.server.url)
            answers = await asyncio.gather(*[client.chat("carat-demo", SUM, options=GREEDY) for _ in range(4)])
            streamed = [p.message.content async for p in
                        await client.chat("carat-demo", SUM, options=GREEDY, stream=True)]
            await client.close()
            return [a.message.content for a in answers] + ["".join(streamed)]
        self.assertEqual(asyncio.run(ask()), ["10"] * 5)


class Tools(Case):
    TOOLS = [tool(WEATHER), tool(TIME)]
    QUESTION = {"role": "user", "content": "What's the weather like in Bangkok?"}

    def test_round_trip(self):
        answer = self.chat([self.QUESTION], tools=self.TOOLS)
        call = answer.message.tool_calls[0]
        self.assertEqual((call.function.name, call.function.arguments), ("get_weather", {"city": "Bangkok"}))
        self.assertEqual(answer.message.content, "")
        result = {"role": "tool", "content": '{"temperature": 16, "condition": "sunny"}'}
        for more in {"tool_name": "get_weather"}, {}:
            history = [self.QUESTION, answer.message, dict(result, **more)]
            self.assertEqual(self.chat(history, tools=self.TOOLS).message.content,
                             "It is 16 degrees and sunny in Bangkok.")

    def test_in_a_stream(self):
        parts = list(self.chat([self.QUESTION], tools=self.TOOLS, stream=True))
        calls = [c for p in parts for c in p.message.tool_calls or ()]
        self.assertEqual([(c.function.name, c.function.arguments) for c in calls],
                         [("get_weather", {"city": "Bangkok"})])
        self.assertEqual(parts[-1].done_reason, "stop")

    def test_functions_become_tools(self):
        def add(a: int, b: int) -> int:
            """
            Add two numbers.

            Args:
              a: First number.
              b: Second number.
            """
            return a + b
        question = {"role": "user", "content": "What is 285 + 613?"}
        answer = self.chat([question], tools=[add])
        arguments = answer.message.tool_calls[0].function.arguments
        self.assertEqual(add(**arguments), 898)
        history = [question, answer.message,
                   {"role": "tool", "tool_name": "add", "content": json.dumps({"result": 898})}]
        self.assertEqual(self.chat(history, tools=[add]).message.content, "The result is 898.")

    def test_call_without_id_is_replayed_as_sampled(self):
        body = {"model": "carat-demo", "stream": False, "think": True, "options": GREEDY, "tools": [tool(ADD)],
                "messages": [{"role": "user", "content": "What is 285 + 613?"}]}
        first = self.server.json("/api/chat", body)
        message = first["message"]
        call = message["tool_calls"][0]
        self.assertRegex(call["id"], "^call_")
        # As a client keeps it: no id, and the arguments in an order of its own.
        call = {"function": {"name": "add", "arguments": {"b": 613, "a": 285}}}
        again = dict(body, messages=body["messages"] + [dict(message, tool_calls=[call]),
                                                        {"role": "tool", "content": '{"result": 898}'}])
        second = self.server.json("/api/chat", again)
        self.assertGreaterEqual(second["prompt_cached_count"],
                                first["prompt_eval_count"] + first["eval_count"] - 2)


class Structured(Case):
    def test_json(self):
        for stream in False, True:
            answer = self.chat([{"role": "user", "content": "Who are you?"}], format="json", stream=stream,
                               options={"num_predict": 300})
            text = "".join(p.message.content for p in answer) if stream else answer.message.content
            self.assertIsInstance(json.loads(text), dict)

    def test_schema(self):
        question = "Who are you?"
        check_person(self, json.loads(self.chat([{"role": "user", "content": question}], format=PERSON).message.content))
        check_person(self, json.loads(self.generate(question, format=PERSON).response))
        thought = self.chat([{"role": "user", "content": question}], format=PERSON, think=True)
        check_person(self, json.loads(thought.message.content))


class Generate(Case):
    def test_whole_and_stream(self):
        answer = self.generate("Opposite of cold?", system="You are carat-demo.")
        self.assertEqual((answer.response, answer.done_reason), ("The opposite of cold is hot.", "stop"))
        parts = list(self.generate("Opposite of cold?", stream=True))
        self.assertEqual("".join(p.response for p in parts), answer.response)
        self.assertEqual((parts[-1].done, parts[-1].response), (True, ""))

    def test_raw(self):
        turn = "<|turn>user\nWhat is 8 plus 2?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
        self.assertEqual(self.generate(turn, raw=True).response, "10")
        plain = self.generate("What is 8 plus 2?", raw=True, options={"num_predict": 5})
        self.assertLess(plain.prompt_eval_count, self.generate("What is 8 plus 2?").prompt_eval_count)
        self.refused("raw", "/api/generate", prompt=turn, raw=True, images=[in_base64(PICTURE[0])])

    def test_pictures_and_thinking(self):
        name, question, expected = PICTURE
        self.assertEqual(self.generate(question, images=[read(name)]).response, expected)
        answer = self.generate("What is 8 plus 2?", think=True)
        self.assertIn("8 + 2", answer.thinking)
        self.assertEqual(answer.response, "10")

    def test_what_is_refused_or_passed_over(self):
        self.refused("suffix", "/api/generate", prompt="x", suffix="y")
        self.refused("template", "/api/generate", prompt="x", template="{{ .Prompt }}")
        self.assertEqual(self.generate("What is 8 plus 2?", context=[1, 2, 3], keep_alive="5m", suffix="").response, "10")


class Embeddings(Case):
    def test_embed(self):
        words = ["The sky is blue.", "Ice is frozen water.", "The sky is blue."]
        answer = self.client.embed("carat-demo", words)
        self.assertEqual(len(answer.embeddings), 3)
        self.assertEqual(answer.embeddings[0], answer.embeddings[2])
        self.assertNotEqual(answer.embeddings[0], answer.embeddings[1])
        self.assertGreater(answer.prompt_eval_count, 9)
        for v in answer.embeddings:
            self.assertAlmostEqual(math.hypot(*v), 1, places=4)
        short = self.client.embed("carat-demo", words[0], dimensions=8).embeddings
        self.assertEqual([len(v) for v in short], [8])
        self.assertAlmostEqual(math.hypot(*short[0]), 1, places=4)
        old = self.client.embeddings("carat-demo", words[0]).embedding
        for a, b in zip(old, answer.embeddings[0]):
            self.assertAlmostEqual(a, b, places=5)
        self.refused("input", "/api/embed", input=[])
        self.refused("dimensions", "/api/embed", input="x", dimensions=100000)


class Models(Case):
    def test_list_and_ps(self):
        model, = self.client.list().models
        self.assertEqual(model.model, "carat-demo:latest")
        self.assertEqual((model.details.format, model.details.quantization_level), ("gguf", "Q8_0"))
        self.assertRegex(model.digest, "^[0-9a-f]{64}$")
        self.assertGreater(model.size, 1e6)
        running, = self.client.ps().models
        self.assertEqual((running.name, running.digest), (model.model, model.digest))
        self.assertGreater(running.context_length, 1000)

    def test_show(self):
        for name in "carat-demo", "carat-demo:latest":
            shown = self.client.show(name)
            self.assertTrue({"completion", "tools", "thinking", "vision", "audio"} <= set(shown.capabilities))
            architecture = shown.modelinfo["general.architecture"]
            self.assertGreater(shown.modelinfo[architecture + ".context_length"], 1000)
            self.assertGreater(shown.modelinfo["general.parameter_count"], 1e6)
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.show("llama3")
        self.assertEqual(caught.exception.status_code, 404)
        self.assertIn("carat-demo", caught.exception.error)

    def test_version_is_one_that_clients_accept(self):
        version = self.server.json("/api/version")["version"]
        self.assertGreaterEqual([int(n) for n in re.findall(r"\d+", version)[:3]], [0, 6, 4])

    def test_any_name_with_or_without_tag_is_answered(self):
        for name in "carat-demo", "carat-demo:latest", "gemma4:12b":
            answer = self.client.chat(name, SUM, options=GREEDY)
            self.assertEqual((answer.model, answer.message.content), (name, "10"))

    def test_pull_of_what_is_here_succeeds_and_the_rest_is_not_offered(self):
        self.assertEqual(self.client.pull("carat-demo").status, "success")
        self.assertEqual([p.status for p in self.client.pull("carat-demo", stream=True)], ["success"])
        for ask, status in ((lambda: self.client.pull("llama3"), 404), (lambda: self.client.push("x"), 501),
                            (lambda: self.client.create("x", from_="y"), 501),
                            (lambda: self.client.delete("x"), 501), (lambda: self.client.copy("a", "b"), 501)):
            with self.assertRaises(ollama.ResponseError) as caught:
                ask()
            self.assertEqual(caught.exception.status_code, status)


class Refusals(Case):
    def test_bad_requests(self):
        rows = (("model", {"model": "", "messages": SUM}),
                ("messages[0]", {"messages": [{"content": "x"}]}),
                ("messages[0]", {"messages": [{"role": "user", "content": 4}]}),
                ("images[0]", {"messages": [{"role": "user", "content": "x", "images": ["!!"]}]}),
                ("options", {"messages": SUM, "options": {"temperature": "hot"}}),
                ("options", {"messages": SUM, "options": []}),
                ("format", {"messages": SUM, "format": "xml"}),
                ("think", {"messages": SUM, "think": "deeply"}),
                ("tools[0]", {"messages": SUM, "tools": [{"type": "function"}]}),
                ("messages[0].tool_calls[0].arguments", {"messages": [{"role": "assistant", "tool_calls": [
                    {"function": {"name": "x", "arguments": True}}]}]}),
                ("messages[0].tool_calls[0].arguments", {"messages": [{"role": "assistant", "tool_calls": [
                    {"function": {"name": "x", "arguments": "[1]"}}]}]}),
                ("stream", {"messages": SUM, "stream": "yes"}))
        for words, body in rows:
            with self.subTest(words=words, body=body):
                self.refused(words, "/api/chat", **body)
        with self.assertRaises(ollama.ResponseError) as caught:
            list(self.client.chat("m", [{"role": "user", "content": "word " * 5000}], stream=True))
        self.assertIn("too long", caught.exception.error)

    def test_broken_picture(self):
        broken = base64.b64encode(read(PICTURE[0])[:300]).decode()
        self.refused("images[0]", "/api/chat", messages=[{"role": "user", "content": "x", "images": [broken]}])


if __name__ == "__main__":
    unittest.main()
