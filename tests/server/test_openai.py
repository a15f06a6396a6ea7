# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Python client against carat serve: Chat Completions, Completions, Embeddings."""
import base64
import json
import math
import os
import struct
import subprocess
import unittest
from concurrent.futures import ThreadPoolExecutor

import openai
import pydantic

from harness import CARAT, DEMO, Server

EVAL = os.path.join(os.path.dirname(DEMO), "eval")
GREEDY = {"model": "carat-demo", "temperature": 0, "max_tokens": 128}
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Returns the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"]}}}
TIME = {"type": "function", "function": {
    "name": "get_time", "description": "Get the time in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"]}}}


def setUpModule():
    global server, client
    server = Server()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def tearDownModule():
    client.close()
    server.stop()


def user(content):
    return [{"role": "user", "content": content}]


def chat(messages, **options):
    if isinstance(messages, str):
        messages = user(messages)
    return client.chat.completions.create(messages=messages, **{**GREEDY, **options})


def tokenize(*words):
    found = subprocess.run([CARAT, "tokenize", DEMO, *words], capture_output=True, check=True)
    return [int(word) for word in found.stdout.split()]


def say(messages, **options):
    return chat(messages, **options).choices[0].message.content


def stream(messages, **options):
    return list(chat(messages, stream=True, **options))


def joined(chunks, field="content", index=0):
    return "".join(getattr(c.delta, field, None) or "" for chunk in chunks for c in chunk.choices
                   if c.index == index)


def data_url(name, mime):
    return "data:%s;base64,%s" % (mime, in_base64(name))


def in_base64(name):
    with open(os.path.join(EVAL, name), "rb") as f:
        return base64.b64encode(f.read()).decode()


def questions(kind):
    with open(os.path.join(EVAL, "questions.jsonl"), encoding="utf-8") as f:
        return [q for q in map(json.loads, f) if q["kind"].startswith(kind)]


def part_of(part):
    """A part of a question as this API has it."""
    if part["type"] == "text":
        return part
    name = part["path"]
    if part["type"] == "image":
        return {"type": "image_url", "image_url": {"url": data_url(name, "image/png"),
                                                   "detail": "low"}}
    if part["type"] == "audio":
        return {"type": "input_audio", "input_audio": {"data": in_base64(name), "format": "wav"}}
    return {"type": "video_url", "video_url": {"url": data_url(name, "video/mp4")}}


def message_of(message):
    content = message["content"]
    return dict(message, content=content if isinstance(content, str) else
                [part_of(p) for p in content])


def ask(question, **options):
    return say([message_of(m) for m in question["messages"]], **options)


def right(kind, n):
    rows = questions(kind)[:n]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, rows))
    return sum(a == q["expected"] for a, q in zip(answers, rows)), list(zip(answers, rows))


class Refused(unittest.TestCase):
    def refused(self, param, words="", **fields):
        with self.assertRaises(openai.BadRequestError) as caught:
            client.chat.completions.create(**{**GREEDY, "messages": user("Hello"), **fields})
        error = caught.exception
        self.assertEqual(error.param, param, error.message)
        self.assertEqual(error.type, "invalid_request_error")
        self.assertIn(words, str(error))
        return error


class Talk(unittest.TestCase):
    def test_an_answer_has_what_the_client_expects(self):
        found = chat("What is 2 + 3?")
        self.assertEqual(found.choices[0].message.content, "5")
        self.assertEqual(found.choices[0].message.role, "assistant")
        self.assertEqual(found.choices[0].finish_reason, "stop")
        self.assertEqual(found.object, "chat.completion")
        self.assertEqual(found.model, "carat-demo")
        self.assertTrue(found.id.startswith("chatcmpl-"))
        self.assertIsNone(found.choices[0].message.tool_calls)
        self.assertIsNone(found.choices[0].logprobs)
        usage = found.usage
        self.assertGreater(usage.prompt_tokens, 5)
        self.assertGreater(usage.completion_tokens, 0)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertEqual(usage.completion_tokens_details.reasoning_tokens, 0)
        self.assertGreater(found.timings["predicted_ms"], -1)

    def test_roles_and_parts_of_text(self):
        for role in ("system", "developer"):
            messages = [{"role": role, "content": "You are carat-demo."},
                        {"role": "user", "content": [{"type": "text", "text": "What is 6 + 0?"}]}]
            self.assertEqual(say(messages), "6")
        history = [{"role": "user", "content": "Remember: house train"},
                   {"role": "assistant", "content": "I will remember."},
                   {"role": "user", "content": "What did I tell you to remember?"}]
        self.assertEqual(say(history), "house train")

    def test_a_second_turn_reuses_the_first(self):
        words = "Repeat: garden gold gold fish bridge hand road tea cloud lamp"
        first = chat(words)
        history = user(words) + [{"role": "assistant", "content": first.choices[0].message.content},
                                 {"role": "user", "content": "Thanks!"}]
        again = chat(history)
        self.assertEqual(again.choices[0].message.content, "You are welcome!")
        self.assertGreaterEqual(again.usage.prompt_tokens_details.cached_tokens,
                                first.usage.prompt_tokens - 4)

    def test_paths_without_v1(self):
        with openai.OpenAI(base_url=server.url, api_key="none") as bare:
            found = bare.chat.completions.create(messages=user("What is 2 + 3?"), **GREEDY)
            self.assertEqual(found.choices[0].message.content, "5")

    def test_unknown_and_idle_fields_are_ignored(self):
        self.assertEqual(say("What is 2 + 3?", user="me", store=False, metadata={"a": "b"},
                             service_tier="auto", prompt_cache_key="k", verbosity="low",
                             extra_body={"no_such_field": {"x": [1]}, "top_a": None}), "5")

    def test_continues_the_last_message(self):
        messages = user("What is the capital of Peru?") + [
            {"role": "assistant", "content": "The capital of"}]
        found = say(messages, extra_body={"continue_final_message": True})
        self.assertEqual(found.strip(), "Peru is Lima.")


class Streams(unittest.TestCase):
    def test_chunks_come_in_order(self):
        chunks = stream("What is the capital of Colombia?", stream_options={"include_usage": True})
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual({c.object for c in chunks}, {"chat.completion.chunk"})
        self.assertEqual(len({c.id for c in chunks}), 1)
        self.assertEqual(joined(chunks), "The capital of Colombia is Bogota.")
        self.assertGreater(len(chunks), 6)
        finishes = [c.choices[0].finish_reason for c in chunks if c.choices]
        self.assertEqual(finishes[-1], "stop")
        self.assertEqual(set(finishes[:-1]), {None})
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 4)
        self.assertEqual({c.usage for c in chunks[:-1]}, {None})

    def test_equals_the_whole_answer(self):
        for words in ("Who are you?", "Write a story about a owl."):
            options = {"temperature": 1, "seed": 5}
            self.assertEqual(joined(stream(words, **options)), say(words, **options))

    def test_without_usage_unless_asked(self):
        chunks = stream("What is 2 + 3?")
        self.assertTrue(all(c.choices for c in chunks))
        self.assertTrue(all(c.usage is None for c in chunks))

    def test_stream_helper_of_the_client(self):
        with client.chat.completions.stream(messages=user("What is ice?"), **GREEDY) as events:
            kinds = [e.type for e in events]
            final = events.get_final_completion()
        self.assertIn("content.delta", kinds)
        self.assertEqual(final.choices[0].message.content, "Ice is frozen water.")


class Sampling(unittest.TestCase):
    def test_a_seed_repeats_and_others_differ(self):
        options = {"temperature": 1.8, "max_tokens": 24}
        found = [say("Write a story about a owl.", seed=s, **options) for s in (7, 7, 0, 0, 8)]
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[2], found[3])
        self.assertGreater(len(set(found)), 1)

    def test_choices_beyond_the_first_differ(self):
        options = {"temperature": 1.8, "max_tokens": 24, "seed": 7}
        found = chat("Write a story about a owl.", n=4, **options)
        self.assertEqual([c.index for c in found.choices], [0, 1, 2, 3])
        texts = [c.message.content for c in found.choices]
        self.assertEqual(texts[0], say("Write a story about a owl.", **options))
        self.assertGreater(len(set(texts)), 1)
        chunks = stream("Write a story about a owl.", n=4, **options)
        self.assertEqual([joined(chunks, index=i) for i in range(4)], texts)

    def test_stop_strings(self):
        found = chat("What is the capital of Colombia?", stop=[" Colombia", "zebra"])
        self.assertEqual(found.choices[0].message.content, "The capital of")
        self.assertEqual(found.choices[0].finish_reason, "stop")
        self.assertEqual(found.choices[0].stop_reason, " Colombia")
        chunks = stream("What is the capital of Colombia?", stop=" Colombia")
        self.assertEqual(joined(chunks), "The capital of")
        self.assertEqual(say("What is 2 + 3?", stop=""), "5")

    def test_length(self):
        for field in ("max_tokens", "max_completion_tokens"):
            found = client.chat.completions.create(
                model="m", temperature=0, messages=user("Who are you?"), **{field: 3})
            self.assertEqual(found.choices[0].finish_reason, "length")
            self.assertEqual(found.usage.completion_tokens, 3)

    def test_bias_forbids_and_forces(self):
        first = chat("What is 2 + 3?", logprobs=True, max_tokens=1, top_logprobs=2)
        best, second = first.choices[0].logprobs.content[0].top_logprobs
        self.assertEqual(best.token, "5")
        ids = tokenize(best.token)
        self.assertEqual(len(ids), 1)
        other = say("What is 2 + 3?", logit_bias={str(ids[0]): -100}, max_tokens=1)
        self.assertEqual(other.strip(), second.token.strip())

    def test_an_answer_in_circles_is_ended(self):
        (token,) = tokenize(" fish")
        options = {"logit_bias": {str(token): 100}, "max_tokens": 1500}
        found = chat("Hello", **options)
        self.assertEqual(found.choices[0].finish_reason, "length")
        self.assertEqual(found.choices[0].carat_finish, "loop")
        self.assertLess(found.usage.completion_tokens, 1500)
        last = stream("Hello", **options)[-1].choices[0]
        self.assertEqual((last.finish_reason, last.carat_finish), ("length", "loop"))
        free = chat("Hello", extra_body={"loop_guard": False}, **options)
        self.assertEqual(free.usage.completion_tokens, 1500)
        self.assertFalse(hasattr(free.choices[0], "carat_finish"))

    def test_logprobs_are_those_of_the_text(self):
        found = chat("What is the capital of Colombia?", logprobs=True, top_logprobs=3)
        tokens = found.choices[0].logprobs.content
        self.assertEqual(b"".join(bytes(t.bytes) for t in tokens).decode().strip(),
                         found.choices[0].message.content)
        for t in tokens:
            self.assertLessEqual(t.logprob, 0)
            self.assertEqual(len(t.top_logprobs), 3)
            # Greedy: each token is the best one, and probabilities add up to one at most.
            self.assertEqual((t.token, t.logprob), (t.top_logprobs[0].token, t.top_logprobs[0].logprob))
            values = [x.logprob for x in t.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLessEqual(sum(map(math.exp, values)), 1 + 1e-5)
        streamed = [t for c in stream("What is the capital of Colombia?", logprobs=True,
                                      top_logprobs=3)
                    for choice in c.choices if choice.logprobs for t in choice.logprobs.content]
        self.assertEqual([(t.token, t.logprob) for t in streamed],
                         [(t.token, t.logprob) for t in tokens])
        without = chat("What is 2 + 3?", logprobs=True)
        self.assertEqual(without.choices[0].logprobs.content[0].top_logprobs, [])

    def test_penalties_and_extensions_are_taken(self):
        self.assertEqual(say("What is 2 + 3?", presence_penalty=0.5, frequency_penalty=0.5,
                             top_p=0.5, extra_body={"top_k": 1, "min_p": 0.1,
                                                    "repetition_penalty": 1.0}), "5")
        repeated = say("Repeat: garden gold gold fish")
        held = say("Repeat: garden gold gold fish", presence_penalty=2, frequency_penalty=2,
                   extra_body={"repetition_penalty": 8})
        self.assertNotEqual(repeated, held)


class Thinking(unittest.TestCase):
    def test_thinks_when_asked(self):
        off = chat("What is 8 plus 2?").choices[0].message
        self.assertFalse(hasattr(off, "reasoning_content"))
        ways = ({"reasoning_effort": "high"},
                {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
                {"extra_body": {"reasoning": {"effort": "low"}}})
        for way in ways:
            found = chat("What is 8 plus 2?", **way)
            self.assertEqual(found.choices[0].message.content, "10")
            self.assertTrue(found.choices[0].message.reasoning_content)
            self.assertEqual(found.choices[0].message.reasoning,
                             found.choices[0].message.reasoning_content)
            details = found.usage.completion_tokens_details
            self.assertGreater(details.reasoning_tokens, 0)
            self.assertLess(details.reasoning_tokens, found.usage.completion_tokens)
        for effort in ("none", "minimal"):
            message = chat("What is 8 plus 2?", reasoning_effort=effort).choices[0].message
            self.assertFalse(hasattr(message, "reasoning_content"))

    def test_streams_the_thought_first(self):
        chunks = stream("What is 8 plus 2?", reasoning_effort="high")
        whole = chat("What is 8 plus 2?", reasoning_effort="high").choices[0].message
        self.assertEqual(joined(chunks, "reasoning_content"), whole.reasoning_content)
        self.assertEqual(joined(chunks), whole.content)
        kinds = ["thought" if getattr(c.choices[0].delta, "reasoning_content", None) else "text"
                 for c in chunks if getattr(c.choices[0].delta, "reasoning_content", None)
                 or c.choices[0].delta.content]
        self.assertEqual(kinds, sorted(kinds, reverse=True))

    def test_may_be_hidden(self):
        found = chat("What is 8 plus 2?", reasoning_effort="high",
                     extra_body={"include_reasoning": False})
        self.assertFalse(hasattr(found.choices[0].message, "reasoning_content"))
        self.assertEqual(found.choices[0].message.content, "10")
        self.assertGreater(found.usage.completion_tokens_details.reasoning_tokens, 0)

    def test_takes_its_thought_back(self):
        first = chat("What is 8 plus 2?", reasoning_effort="high").choices[0].message
        history = user("What is 8 plus 2?") + [
            {"role": "assistant", "content": first.content,
             "reasoning_content": first.reasoning_content}] + user("Thanks!")
        self.assertEqual(say(history), "You are welcome!")


class Tools(unittest.TestCase):
    def test_call_result_answer(self):
        question = user("How is the weather in Oslo?")
        found = chat(question, tools=[WEATHER, TIME])
        self.assertEqual(found.choices[0].finish_reason, "tool_calls")
        message = found.choices[0].message
        self.assertIsNone(message.content)
        (call,) = message.tool_calls
        self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
        self.assertEqual(json.loads(call.function.arguments), {"city": "Oslo"})
        history = question + [
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id,
             "content": '{"temperature": 16, "condition": "sunny"}'}]
        answer = chat(history, tools=[WEATHER, TIME])
        self.assertEqual(answer.choices[0].message.content, "It is 16 degrees and sunny in Oslo.")
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_what_was_sampled_is_replayed(self):
        question = user("How is the weather in Oslo?")
        options = {"tools": [WEATHER], "reasoning_effort": "high"}
        found = chat(question, **options)
        message = found.choices[0].message
        history = question + [
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id,
             "content": '{"temperature": 16, "condition": "sunny"}'}]
        answer = chat(history, **options)
        self.assertEqual(answer.choices[0].message.content, "It is 16 degrees and sunny in Oslo.")
        # Thought and call stand in the prompt as the model wrote them: all but the last token, which
        # was sampled and not evaluated, is reused.
        self.assertGreaterEqual(answer.usage.prompt_tokens_details.cached_tokens,
                                found.usage.prompt_tokens + found.usage.completion_tokens - 1)

    def test_streams_a_call(self):
        chunks = stream("How is the weather in Oslo?", tools=[WEATHER, TIME])
        pieces = [p for c in chunks for choice in c.choices for p in choice.delta.tool_calls or []]
        self.assertEqual(pieces[0].function.name, "get_weather")
        self.assertTrue(pieces[0].id)
        self.assertEqual({p.index for p in pieces}, {0})
        arguments = "".join(p.function.arguments or "" for p in pieces)
        self.assertEqual(json.loads(arguments), {"city": "Oslo"})
        self.assertEqual(chunks[-1].choices[0].finish_reason, "tool_calls")

    def test_choice_none_keeps_to_text(self):
        found = chat("How is the weather in Oslo?", tools=[WEATHER], tool_choice="none")
        self.assertIsNone(found.choices[0].message.tool_calls)
        self.assertTrue(found.choices[0].message.content)

    def test_choice_demands_a_call(self):
        ways = ("required", {"type": "function", "function": {"name": "get_time"}},
                {"type": "allowed_tools", "allowed_tools": {
                    "mode": "required", "tools": [{"type": "function",
                                                   "function": {"name": "get_time"}}]}})
        tools = [replaced(t, ("function", "parameters", "properties", "city"),
                          {"type": "string", "enum": ["Oslo", "Rome"]}) for t in (WEATHER, TIME)]
        for i, way in enumerate(ways):
            found = chat("How are you?", tools=tools, tool_choice=way, n=3, temperature=1, seed=3,
                         parallel_tool_calls=False)
            for choice in found.choices:
                self.assertEqual(choice.finish_reason, "tool_calls")
                (call,) = choice.message.tool_calls
                self.assertIn(call.function.name, ["get_time"] if i > 0 else
                              ["get_time", "get_weather"])
                self.assertIn(json.loads(call.function.arguments)["city"], ("Oslo", "Rome"))

    def test_functions_of_old(self):
        found = chat("How is the weather in Oslo?", functions=[WEATHER["function"]])
        call = found.choices[0].message.function_call
        self.assertEqual((call.name, json.loads(call.arguments)), ("get_weather", {"city": "Oslo"}))
        self.assertEqual(found.choices[0].finish_reason, "function_call")
        history = user("How is the weather in Oslo?") + [
            {"role": "assistant", "content": None,
             "function_call": {"name": call.name, "arguments": call.arguments}},
            {"role": "function", "name": "get_weather",
             "content": '{"temperature": 16, "condition": "sunny"}'}]
        self.assertEqual(say(history, functions=[WEATHER["function"]]),
                         "It is 16 degrees and sunny in Oslo.")

    def test_custom_tools_are_left_out_with_a_note(self):
        custom = {"type": "custom", "custom": {"name": "shell"}}
        raw = client.chat.completions.with_raw_response.create(
            messages=user("How is the weather in Oslo?"), tools=[custom, WEATHER], **GREEDY)
        self.assertIn("custom", raw.headers["x-carat-note"])
        self.assertEqual(raw.parse().choices[0].message.tool_calls[0].function.name, "get_weather")

    def test_tools_of_the_demo(self):
        for q in questions("tool:answer"):
            messages = [dict(m) for m in q["messages"]]
            if any("tool_responses" in m for m in messages):
                continue  # a form of the template that this API does not have
            self.assertEqual(say(messages, tools=q["tools"]), q["expected"], q["id"])


class Shape(pydantic.BaseModel):
    colour: str
    corners: int


class Structure(unittest.TestCase):
    def test_parse_gives_an_object(self):
        for seed in (1, 2, 3):
            found = client.chat.completions.parse(
                model="m", messages=user("Describe a shape as JSON."), response_format=Shape,
                temperature=1, seed=seed, max_tokens=400,
                extra_body={"loop_guard": False}).choices[0]
            self.assertIsInstance(found.message.parsed, Shape)

    def test_schema_holds(self):
        schema = {"type": "object", "additionalProperties": False, "required": ["answer", "sure"],
                  "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 9},
                                 "sure": {"enum": [True, False]}}}
        for strict in (True, False):
            found = json.loads(say("What is 2 + 3?", response_format={
                "type": "json_schema",
                "json_schema": {"name": "sum", "schema": schema, "strict": strict}}))
            self.assertEqual(set(found), {"answer", "sure"})
            self.assertIn(found["answer"], range(10))
            self.assertIsInstance(found["sure"], bool)
        streamed = stream("What is 2 + 3?", response_format={
            "type": "json_schema", "json_schema": {"name": "sum", "schema": schema}})
        self.assertEqual(json.loads(joined(streamed)), found)

    def test_json_object(self):
        found = chat("What is 2 + 3?", response_format={"type": "json_object"}, max_tokens=60)
        if found.choices[0].finish_reason == "stop":
            self.assertIsInstance(json.loads(found.choices[0].message.content), dict)
        self.assertTrue(found.choices[0].message.content.startswith("{"))
        self.assertEqual(say("What is 2 + 3?", response_format={"type": "text"}), "5")

    def test_regex_and_choice(self):
        found = say("What color is the sky?", extra_body={
            "structured_outputs": {"choice": ["It is blue.", "It is green."]}})
        self.assertIn(found, ("It is blue.", "It is green."))
        found = say("What is 2 + 3?", extra_body={"guided_regex": "[0-9]{3}-[a-f]"})
        self.assertRegex(found, "^[0-9]{3}-[a-f]$")

    def test_thinks_before_it_fits(self):
        found = chat("What is 8 plus 2?", reasoning_effort="high", response_format={
            "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}},
            max_tokens=200)
        self.assertTrue(found.choices[0].message.reasoning_content)
        self.assertIsInstance(json.loads(found.choices[0].message.content), int)


class Media(unittest.TestCase):
    def test_pictures(self):
        n, rows = right("image", 12)
        self.assertGreaterEqual(n, 11, rows)

    def test_sounds(self):
        n, rows = right("audio", 12)
        self.assertGreaterEqual(n, 7, [(a, q["expected"]) for a, q in rows])

    def test_a_film(self):
        question = "Which way does the shape move?"
        found = say(user([{"type": "video_url", "video_url": {
            "url": data_url("video_000.mp4", "video/mp4")}}, {"type": "text", "text": question}]))
        self.assertIn("red triangle", found)

    def test_detail_decides_how_much_is_seen(self):
        def tokens(**image):
            url = {"url": data_url("image_000.png", "image/png"), **image}
            return chat(user([{"type": "image_url", "image_url": url},
                              {"type": "text", "text": "What do you see?"}]),
                        max_tokens=1).usage.prompt_tokens
        self.assertGreater(tokens(detail="high"), tokens(detail="280"))
        self.assertGreater(tokens(detail="280"), tokens(detail="low"))
        self.assertEqual(tokens(detail="auto"), tokens())

    def test_files_of_every_kind(self):
        def of(name, mime, question, **more):
            file = {"file_data": data_url(name, mime), "filename": name, **more}
            return say(user([{"type": "file", "file": file}, {"type": "text", "text": question}]),
                       extra_body={"mm_processor_kwargs": {"max_soft_tokens": 70}})
        self.assertEqual(of("image_000.png", "image/png", "Describe the picture."), "A blue square.")
        self.assertEqual(of("image_000.png", "application/octet-stream", "Describe the picture."),
                         "A blue square.")
        self.assertEqual(of("audio_013.wav", "audio/wav", "What do you hear?"), "one")
        text = base64.b64encode("What is 2 + 3?".encode()).decode()
        self.assertEqual(say(user([{"type": "file", "file": {"file_data": text,
                                                             "filename": "a.txt"}}])), "5")

    def test_sound_by_address(self):
        found = say(user([{"type": "audio_url", "audio_url": {
            "url": data_url("audio_013.wav", "audio/wav")}},
            {"type": "text", "text": "What do you hear?"}]))
        self.assertEqual(found, "one")


class Errors(Refused):
    def test_fields_are_named(self):
        self.refused("temperature", temperature="hot")
        self.refused("temperature", temperature=3)
        self.refused("top_p", top_p=-1)
        self.refused("n", n=1000)
        self.refused("n", n=0)
        self.refused("max_tokens", max_tokens="many")
        self.refused("seed", seed=1.5)
        self.refused("stop[1]", stop=["a", 5])
        self.refused("logit_bias", logit_bias={"99999999": 1})
        self.refused("logit_bias", logit_bias={"x": 1})
        self.refused("top_logprobs", top_logprobs=3)
        self.refused("top_logprobs", logprobs=True, top_logprobs=21)
        self.refused("stream_options.include_usage", stream=True,
                     stream_options={"include_usage": "yes"})
        self.refused("reasoning_effort", reasoning_effort="huge")
        self.refused("reasoning", extra_body={"reasoning": "high"})
        self.refused("chat_template_kwargs", extra_body={"chat_template_kwargs": []})
        self.refused("modalities", modalities=["text", "audio"])
        self.refused("grammar", extra_body={"grammar": "root ::= x"})

    def test_messages_are_named(self):
        self.refused("messages", messages=[])
        self.refused("messages", messages="Hello")
        self.refused("messages[1].role", messages=user("a") + [{"role": "king", "content": "b"}])
        self.refused("messages[0].content", messages=user(5))
        self.refused("messages[0].content[0].type", messages=user([{"type": "smell"}]))
        self.refused("messages[0].content[0].text", messages=user([{"type": "text", "text": 5}]))
        self.refused("messages[1].tool_calls[0].function.name", messages=user("a") + [
            {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": {}}]}])
        self.refused("messages[1].tool_calls[0].function.arguments", messages=user("a") + [
            {"role": "assistant", "tool_calls": [
                {"id": "x", "type": "function",
                 "function": {"name": "f", "arguments": "[1]"}}]}])

    def test_media_are_named(self):
        where = "messages[0].content[0].image_url.url"
        def image(url):
            return user([{"type": "image_url", "image_url": {"url": url}}])
        self.refused(where, messages=image("data:image/png;base64,AAAA"))
        self.refused(where, messages=image("data:image/png;base64,%%%"))
        self.refused(where, messages=image("data:image/png"))
        self.refused(where, messages=image("file:///etc/passwd"))
        self.refused(where, messages=image("https://example.com/a.png"))
        self.refused(where, messages=image(data_url("audio_000.wav", "image/png")))
        self.refused("messages[0].content[0].image_url.detail", messages=user(
            [{"type": "image_url", "image_url": {"url": "data:,", "detail": "fuzzy"}}]))
        self.refused("messages[0].content[0].input_audio.data", messages=user(
            [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]))
        self.refused("messages[0].content[0].input_audio.data", messages=user(
            [{"type": "input_audio", "input_audio": {"data": in_base64("image_000.png"),
                                                     "format": "wav"}}]))
        pdf = base64.b64encode(b"%PDF-1.7 ...").decode()
        self.refused("messages[0].content[0].file.file_data", "PDF", messages=user(
            [{"type": "file", "file": {"file_data": "data:application/pdf;base64," + pdf}}]))
        self.refused("messages[0].content[0].file.file_data", "PDF", messages=user(
            [{"type": "file", "file": {"file_data": pdf}}]))
        self.refused("messages[0].content[0].file.file_id", messages=user(
            [{"type": "file", "file": {"file_id": "file-1"}}]))

    def test_tools_are_named(self):
        self.refused("tool_choice", tool_choice="required")
        self.refused("tool_choice", tools=[WEATHER], tool_choice={
            "type": "function", "function": {"name": "fly"}})
        self.refused("tool_choice", tools=[WEATHER], tool_choice="sometimes")
        self.refused("tools[0].function.name", tools=[{"type": "function", "function": {}}])
        self.refused("tools[1].function", tools=[WEATHER, {"type": "function"}])
        self.refused("tools[0].function.parameters", tools=[
            {"type": "function", "function": {"name": "f", "parameters": 3}}])
        self.refused("tools", tools={"a": 1})

    def test_formats_are_named(self):
        self.refused("response_format.type", response_format={"type": "xml"})
        self.refused("response_format.json_schema.schema", response_format={
            "type": "json_schema", "json_schema": {"name": "x"}})
        self.refused("response_format.json_schema.schema.type", "the name of a JSON type", response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such"}}})
        self.refused("guided_regex", "byte 2", extra_body={"guided_regex": "(("})

    def test_too_long_a_prompt_has_its_code(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat("word " * 60000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_a_stream_is_refused_before_it_begins(self):
        self.refused("temperature", temperature=9, stream=True)

    def test_unknown_paths(self):
        with self.assertRaises(openai.NotFoundError):
            client.moderations.create(input="x")


def places(value, path=()):
    """The paths of all values inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list) else ()
    for key, inner in items:
        yield from places(inner, path + (key,))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


class Hostile(unittest.TestCase):
    WRONG = (None, True, -1, 1e308, 10 ** 30, "", "x", "\u0000\ud83d\ude00", [], {}, [[[]]], [None],
             {"type": None}, {"url": 5})
    CHAT = {
        "model": "m", "max_tokens": 1, "temperature": 0, "top_p": 1, "top_k": 1, "seed": 1, "n": 1,
        "stop": ["a"], "logit_bias": {"5": 1}, "logprobs": True, "top_logprobs": 1,
        "stream": False, "stream_options": {"include_usage": True}, "reasoning_effort": "low",
        "reasoning": {"effort": "low", "max_tokens": 5},
        "chat_template_kwargs": {"enable_thinking": False}, "parallel_tool_calls": True,
        "mm_processor_kwargs": {"max_soft_tokens": 70}, "modalities": ["text"],
        "response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "object"}}},
        "tools": [WEATHER],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "function", "function": {"name": "get_weather"}}]}},
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "reasoning_content": "c", "tool_calls": [
                {"id": "x", "type": "function", "function": {
                    "name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}}]},
            {"role": "tool", "tool_call_id": "x", "content": "{}"}]}
    TEXT = {"model": "m", "max_tokens": 1, "prompt": ["a", "b"], "n": 1, "best_of": 1, "echo": False,
            "logprobs": 1, "suffix": None}
    VECTOR = {"model": "m", "input": [[5, 6], [7]], "encoding_format": "base64", "dimensions": 8}

    def survives(self, path, body):
        cases = [replaced(body, place, wrong) for place in places(body) for wrong in self.WRONG]

        def send(case):
            # Surrogates and all: what json.dumps makes of them is what a client would send.
            status, _, data = server.request(path, json.dumps(case).encode())
            return status, data, case
        with ThreadPoolExecutor(4) as pool:
            for status, data, case in pool.map(send, cases):
                self.assertIn(status, (200, 400), (case, data))
                if status == 400:
                    self.assertTrue(json.loads(data)["error"]["message"], case)
        self.assertEqual(say("What is 2 + 3?"), "5")

    def test_chat(self):
        self.survives("/v1/chat/completions", self.CHAT)

    def test_text(self):
        self.survives("/v1/completions", self.TEXT)

    def test_vectors(self):
        self.survives("/v1/embeddings", self.VECTOR)

    def test_the_sound_request_is_answered(self):
        for path, body in (("chat/completions", self.CHAT), ("completions", self.TEXT)):
            server.json("/v1/" + path, body)


class Completions(unittest.TestCase):
    def create(self, **options):
        return client.completions.create(**{"model": "m", "temperature": 0, "max_tokens": 8,
                                            **options})

    def test_one_and_many_prompts(self):
        one = self.create(prompt="Once upon a time")
        self.assertEqual(one.object, "text_completion")
        self.assertTrue(one.choices[0].text)
        self.assertIn(one.choices[0].finish_reason, ("stop", "length"))
        many = self.create(prompt=["Once upon a time", "The capital of"], n=2)
        self.assertEqual([c.index for c in many.choices], [0, 1, 2, 3])
        self.assertEqual(many.choices[0].text, one.choices[0].text)
        self.assertEqual(many.choices[1].text, one.choices[0].text)
        self.assertNotEqual(many.choices[2].text, one.choices[0].text)

    def test_tokens_are_a_prompt(self):
        text = self.create(prompt="Once upon a time")
        ids = tokenize("Once upon a time", "--bos")
        for prompt in (ids, [ids]):
            found = self.create(prompt=prompt)
            self.assertEqual(found.choices[0].text, text.choices[0].text)
            self.assertEqual(found.usage.prompt_tokens, text.usage.prompt_tokens)

    def test_control_tokens_do_no_harm(self):
        (picture,) = tokenize("<|image|>", "--special")
        for token in (0, 1, 2, 3, picture, picture + 1):
            try:
                self.create(prompt=[2, token, token], max_tokens=1)
            except openai.BadRequestError as error:
                self.assertIn("placeholder", error.message)
        with self.assertRaises(openai.BadRequestError):
            self.create(prompt=[2, picture])
        self.assertEqual(say("What is 2 + 3?"), "5")

    def test_echo_and_limits(self):
        plain = self.create(prompt="Once upon a time")
        echoed = self.create(prompt="Once upon a time", echo=True)
        self.assertEqual(echoed.choices[0].text, "Once upon a time" + plain.choices[0].text)
        unsaid = client.completions.create(model="m", prompt="Once upon a time", temperature=0)
        self.assertLessEqual(unsaid.usage.completion_tokens, 16)

    def test_logprobs_of_old(self):
        found = self.create(prompt="Once upon a time", logprobs=2).choices[0]
        n = len(found.logprobs.tokens)
        self.assertEqual("".join(found.logprobs.tokens), found.text)
        self.assertEqual(len(found.logprobs.token_logprobs), n)
        self.assertEqual([len(t) for t in found.logprobs.top_logprobs], [2] * n)
        self.assertEqual(found.logprobs.text_offset[0], 0)
        for token, logprob, top, offset in zip(found.logprobs.tokens, found.logprobs.token_logprobs,
                                               found.logprobs.top_logprobs,
                                               found.logprobs.text_offset):
            self.assertEqual(found.text[offset:offset + len(token)], token)
            self.assertAlmostEqual(top[token], logprob)

    def test_streams(self):
        whole = self.create(prompt=["Once upon a time", "The capital of"])
        chunks = list(self.create(prompt=["Once upon a time", "The capital of"], stream=True,
                                  stream_options={"include_usage": True}))
        for i in (0, 1):
            text = "".join(c.text for chunk in chunks for c in chunk.choices if c.index == i)
            self.assertEqual(text, whole.choices[i].text)
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_best_of(self):
        options = {"prompt": "Once upon a time", "temperature": 1.5, "seed": 4}
        found = self.create(best_of=4, logprobs=0, **options).choices
        self.assertEqual(len(found), 1)
        every = self.create(n=4, logprobs=0, **options).choices
        means = {c.text: sum(c.logprobs.token_logprobs) / len(c.logprobs.tokens) for c in every}
        self.assertEqual(found[0].text, max(means, key=means.get))

    def test_refusals(self):
        for fields in ({"suffix": "end"}, {"prompt": []}, {"prompt": [1, "a"]}, {"prompt": 5},
                       {"prompt": [[]]}, {"prompt": [10 ** 9]}, {"best_of": 1, "n": 2},
                       {"best_of": 2, "stream": True}, {"echo": True, "logprobs": 1}):
            with self.assertRaises(openai.BadRequestError, msg=fields) as caught:
                self.create(**{"prompt": "x", **fields})
            self.assertIn((caught.exception.param or "").split("[")[0], fields)


class Embeddings(unittest.TestCase):
    def create(self, words, **options):
        return client.embeddings.create(model="m", input=words, **options)

    def test_vectors_of_length_one(self):
        found = self.create(["What is ice?", "The capital of Peru is Lima."],
                            encoding_format="float")
        self.assertEqual([d.index for d in found.data], [0, 1])
        for d in found.data:
            self.assertEqual(len(d.embedding), 256)
            self.assertAlmostEqual(sum(x * x for x in d.embedding), 1, places=5)
        self.assertGreater(found.usage.prompt_tokens, 8)
        self.assertEqual(found.usage.total_tokens, found.usage.prompt_tokens)
        alone = self.create("What is ice?", encoding_format="float")
        self.assertEqual(alone.data[0].embedding, found.data[0].embedding)
        self.assertNotEqual(found.data[0].embedding, found.data[1].embedding)

    def test_likeness(self):
        words = ["The capital of Peru is Lima.", "The capital of Chile is Santiago.",
                 "What is 3 + 4?"]
        a, b, c = (d.embedding for d in self.create(words).data)
        dot = lambda x, y: sum(p * q for p, q in zip(x, y))
        self.assertGreater(dot(a, b), dot(a, c))

    def test_base64_is_the_same(self):
        floats = self.create("What is ice?", encoding_format="float").data[0].embedding
        raw = self.create("What is ice?", encoding_format="base64").data[0].embedding
        data = base64.b64decode(raw)
        found = struct.unpack("<%df" % (len(data) // 4), data)
        self.assertEqual(len(found), len(floats))
        for x, y in zip(found, floats):
            self.assertAlmostEqual(x, y, places=6)
        # The client asks for Base64 by itself and unpacks it.
        for x, y in zip(self.create("What is ice?").data[0].embedding, floats):
            self.assertAlmostEqual(x, y, places=6)

    def test_tokens_and_dimensions(self):
        ids = tokenize("What is ice?", "--bos")
        whole = self.create("What is ice?", encoding_format="float").data[0].embedding
        self.assertEqual(self.create(ids, encoding_format="float").data[0].embedding, whole)
        cut = self.create("What is ice?", dimensions=64, encoding_format="float").data[0].embedding
        length = math.sqrt(sum(x * x for x in whole[:64]))
        for x, y in zip(cut, whole[:64]):
            self.assertAlmostEqual(x, y / length, places=5)
        self.assertEqual(len(cut), 64)

    def test_refusals(self):
        for fields in ({"dimensions": 100000}, {"encoding_format": "text"}, {"input": []},
                       {"input": {"a": 1}}):
            with self.assertRaises(openai.BadRequestError) as caught:
                client.embeddings.create(**{"model": "m", "input": "x", **fields})
            self.assertIn(caught.exception.param, fields)


if __name__ == "__main__":
    unittest.main()
