# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Python client against carat serve: Responses."""
import base64
import json
import os
import typing
import unittest

import openai
import pydantic

from harness import Server

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EVAL = os.path.join(ROOT, "demo", "eval")
WEATHER = {"type": "function", "name": "get_weather",
           "description": "Get the current weather for a city.", "strict": True,
           "parameters": {"type": "object",
                          "properties": {"city": {"type": "string", "description": "City name."}},
                          "required": ["city"], "additionalProperties": False}}
TIME = {"type": "function", "name": "get_time", "description": "Get the time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                       "required": ["city"]}}
# A model of this size writes free text only where it has seen it.
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
        "required": ["city"]}
# Tokens at the end of a prompt that open the answer (an empty thought): no part of the history.
OPENING = 4


def setUpModule():
    global server, client
    server = Server()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def tearDownModule():
    client.close()
    server.stop()


def create(input, **options):
    return client.responses.create(**{"model": "carat-demo", "temperature": 0,
                                      "max_output_tokens": 200, "input": input, **options})


def say(input, **options):
    return create(input, **options).output_text


def stream(input, **options):
    return list(create(input, stream=True, **options))


def in_base64(name):
    with open(os.path.join(EVAL, name), "rb") as f:
        return base64.b64encode(f.read()).decode()


def data_url(name, mime):
    return "data:%s;base64,%s" % (mime, in_base64(name))


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def text(words):
    return {"type": "input_text", "text": words}


def calls(response, kind="function_call"):
    return [item for item in response.output if item.type == kind]


def kinds(events):
    return [e.type for e in events]


# What stays the same between two answers to one request.
def shape(response):
    def strip(v):
        if isinstance(v, dict):
            return {k: strip(x) for k, x in v.items()
                    if k not in ("id", "call_id", "created_at", "completed_at", "usage",
                                 "encrypted_content", "logprobs")}
        return [strip(x) for x in v] if isinstance(v, list) else v
    return strip(response.model_dump())


class Talk(unittest.TestCase):
    def test_an_answer_has_what_the_client_expects(self):
        found = create("What is the capital of Peru?", metadata={"a": "b"}, user="me")
        self.assertEqual(found.output_text, "The capital of Peru is Lima.")
        self.assertEqual(found.object, "response")
        self.assertEqual(found.status, "completed")
        self.assertTrue(found.id.startswith("resp_"))
        self.assertEqual(found.model, "carat-demo")
        self.assertEqual(found.metadata, {"a": "b"})
        self.assertEqual(found.temperature, 0)
        self.assertEqual(found.max_output_tokens, 200)
        self.assertEqual(found.tool_choice, "auto")
        self.assertEqual(found.tools, [])
        self.assertIsNone(found.error)
        self.assertIsNone(found.incomplete_details)
        self.assertEqual([i.type for i in found.output], ["message"])
        message = found.output[0]
        self.assertEqual((message.role, message.status), ("assistant", "completed"))
        self.assertTrue(message.id.startswith("msg_"))
        self.assertEqual(message.content[0].annotations, [])
        usage = found.usage
        self.assertGreater(usage.input_tokens, 5)
        self.assertGreater(usage.output_tokens, 4)
        self.assertEqual(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        self.assertEqual(usage.output_tokens_details.reasoning_tokens, 0)

    def test_instructions_and_roles(self):
        self.assertEqual(say("What is 6 + 0?", instructions="You are carat-demo."), "6")
        for role in ("system", "developer"):
            items = [{"role": role, "content": "You are carat-demo."},
                     {"type": "message", "role": "user", "content": [text("What is 6 + 0?")]}]
            self.assertEqual(say(items), "6")

    def test_instructions_and_system_messages_are_one_prompt(self):
        apart = create([{"role": "developer", "content": [text("B")]},
                        {"role": "user", "content": "Hello"}], instructions="A")
        together = create("Hello", instructions="A\n\nB")
        self.assertEqual(apart.usage.input_tokens, together.usage.input_tokens)
        self.assertEqual(apart.output_text, together.output_text)

    def test_history_in_the_input(self):
        items = [{"role": "user", "content": "Remember: house train"},
                 {"type": "message", "role": "assistant", "id": "msg_x", "status": "completed",
                  "content": [{"type": "output_text", "text": "I will remember.",
                               "annotations": []}]},
                 {"role": "user", "content": [text("What did I tell you to remember?")]}]
        self.assertEqual(say(items), "house train")

    def test_length_makes_it_incomplete(self):
        found = create("Who are you?", max_output_tokens=3)
        self.assertEqual(found.status, "incomplete")
        self.assertEqual(found.incomplete_details.reason, "max_output_tokens")
        self.assertEqual(found.output[-1].status, "incomplete")
        self.assertEqual(found.usage.output_tokens, 3)

    def test_logprobs(self):
        found = create("What is 2 + 3?", include=["message.output_text.logprobs"], top_logprobs=2)
        rows = found.output[0].content[0].logprobs
        self.assertEqual("".join(r.token for r in rows), "5")
        self.assertLessEqual(rows[0].logprob, 0)
        self.assertEqual(len(rows[0].top_logprobs), 2)
        self.assertEqual(rows[0].top_logprobs[0].token, "5")
        self.assertEqual(bytes(rows[0].bytes), b"5")
        events = stream("What is 2 + 3?", include=["message.output_text.logprobs"])
        deltas = [e for e in events if e.type == "response.output_text.delta"]
        self.assertEqual([r.token for e in deltas for r in e.logprobs], ["5"])

    def test_sampling_is_repeatable(self):
        options = {"temperature": 1, "top_p": 0.9, "extra_body": {"seed": 7}}
        self.assertEqual(say("Write a story about a owl.", **options),
                         say("Write a story about a owl.", **options))

    def test_counting_makes_nothing(self):
        for options in ({}, {"tools": [WEATHER], "reasoning": {"effort": "low"}}):
            n = client.responses.input_tokens.count(model="x", input="What is ice?", **options)
            self.assertEqual(n.object, "response.input_tokens")
            self.assertEqual(n.input_tokens, create("What is ice?", **options).usage.input_tokens)

    def test_paths_without_v1(self):
        with openai.OpenAI(base_url=server.url, api_key="none") as bare:
            made = bare.responses.create(model="x", input="What is 2 + 3?", temperature=0)
            self.assertEqual(made.output_text, "5")
            self.assertEqual(bare.responses.retrieve(made.id).output_text, "5")

    def test_idle_fields_are_ignored(self):
        raw = client.responses.with_raw_response.create(
            model="x", temperature=0, input="What is 2 + 3?", truncation="auto",
            service_tier="auto", prompt_cache_key="k", safety_identifier="s",
            text={"verbosity": "low"}, max_tool_calls=3, store=False,
            extra_body={"client_metadata": {"a": 1}, "prompt_cache_retention": "24h"})
        self.assertEqual(raw.parse().output_text, "5")
        self.assertEqual(raw.parse().model, "x")
        self.assertIn("truncation auto ignored", raw.headers["x-carat-note"])
        self.assertIn("max_tool_calls ignored", raw.headers["x-carat-note"])


class Media(unittest.TestCase):
    def test_pictures(self):
        picture = {"type": "input_image", "image_url": data_url("image_009.png", "image/png"),
                   "detail": "low"}
        self.assertEqual(say(user(picture, text("What is in the picture?"))), "A green square.")

    def test_sound(self):
        for data in (in_base64("audio_001.wav"), data_url("audio_001.wav", "audio/wav")):
            sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
            self.assertEqual(say(user(sound, text("Transcribe the audio."))), "two")

    def test_files(self):
        words = base64.b64encode(b"Repeat: cloud lamp").decode()
        file = {"type": "input_file", "filename": "a.txt",
                "file_data": "data:text/plain;base64," + words}
        with_file = create(user(file, text("Thanks!")))
        self.assertGreater(with_file.usage.input_tokens, create("Thanks!").usage.input_tokens + 3)
        picture = {"type": "input_file", "filename": "a.png",
                   "file_data": data_url("image_009.png", "image/png")}
        self.assertIn("green square", say(user(picture, text("What is in the picture?"))))

    def test_what_is_not_kept_here_is_refused(self):
        for part, words in (({"type": "input_image", "file_id": "file-1"}, "file_id"),
                            ({"type": "input_file", "file_id": "file-1"}, "file_id"),
                            ({"type": "input_image", "image_url": "file:///etc/passwd"}, "data:"),
                            ({"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                             "image_url"),
                            ({"type": "input_hologram"}, "input_hologram")):
            with self.assertRaises(openai.BadRequestError) as caught:
                create(user(part))
            self.assertIn(words, str(caught.exception))
            self.assertIn("input[0]", str(caught.exception))


class Thinking(unittest.TestCase):
    def test_reasoning_is_an_item_before_the_message(self):
        found = create("What is the capital of Iceland?", reasoning={"effort": "medium"})
        self.assertEqual([i.type for i in found.output], ["reasoning", "message"])
        self.assertEqual(found.output_text, "The capital of Iceland is Reykjavik.")
        self.assertTrue(found.output[0].content[0].text)
        self.assertEqual(found.output[0].content[0].type, "reasoning_text")
        self.assertEqual(found.output[0].summary, [])
        self.assertGreater(found.usage.output_tokens_details.reasoning_tokens, 0)
        self.assertLess(found.usage.output_tokens_details.reasoning_tokens,
                        found.usage.output_tokens)
        self.assertEqual(found.reasoning.effort, "medium")

    def test_none_and_minimal_do_not_think(self):
        for effort in ("none", "minimal"):
            found = create("What is the capital of Iceland?", reasoning={"effort": effort})
            self.assertEqual([i.type for i in found.output], ["message"])

    def test_summaries_when_asked_for(self):
        found = create("What is 8 plus 2?", reasoning={"effort": "low", "summary": "auto"})
        self.assertTrue(found.output[0].summary[0].text)
        self.assertFalse(found.output[0].content)
        events = stream("What is 8 plus 2?", reasoning={"effort": "low", "summary": "auto"})
        order = [k for k in kinds(events) if "reasoning" in k and "delta" not in k]
        self.assertEqual(order, ["response.reasoning_summary_part.added",
                                 "response.reasoning_summary_text.done",
                                 "response.reasoning_summary_part.done"])
        deltas = "".join(e.delta for e in events
                         if e.type == "response.reasoning_summary_text.delta")
        self.assertEqual(deltas, found.output[0].summary[0].text)

    def test_sealed_thoughts_come_back(self):
        include = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "high"}}
        first = create("How is the weather in Oslo?", tools=[WEATHER], store=False, **include)
        thought = first.output[0]
        self.assertEqual(thought.type, "reasoning")
        self.assertTrue(thought.encrypted_content)
        self.assertEqual(calls(first)[0].name, "get_weather")
        items = [{"role": "user", "content": "How is the weather in Oslo?"}]
        rest = [{"type": "function_call", "call_id": calls(first)[0].call_id,
                 "name": "get_weather", "arguments": calls(first)[0].arguments},
                {"type": "function_call_output", "call_id": calls(first)[0].call_id,
                 "output": '{"temperature": 16, "condition": "sunny"}'}]
        sealed = {"type": "reasoning", "id": thought.id, "summary": [],
                  "encrypted_content": thought.encrypted_content}
        clear = {"type": "reasoning", "id": "rs_1", "summary": [],
                 "content": [{"type": "reasoning_text", "text": thought.content[0].text}]}
        foreign = dict(sealed, encrypted_content="gAAAAABm")
        tokens = [create(items + more + rest, tools=[WEATHER], **include).usage.input_tokens
                  for more in ([sealed], [clear], [foreign], [])]
        self.assertEqual(tokens[0], tokens[1])
        self.assertEqual(tokens[2], tokens[3])
        self.assertGreater(tokens[0], tokens[2])


class Tools(unittest.TestCase):
    def ask_weather(self, **options):
        return create("How is the weather in Oslo?", tools=[WEATHER, TIME], **options)

    def test_call_and_result(self):
        found = self.ask_weather()
        self.assertEqual([i.type for i in found.output], ["function_call"])
        call = found.output[0]
        self.assertEqual((call.name, json.loads(call.arguments)), ("get_weather", {"city": "Oslo"}))
        self.assertTrue(call.call_id.startswith("call_"))
        self.assertEqual(call.status, "completed")
        self.assertEqual(found.status, "completed")
        self.assertEqual(found.tools[0].name, "get_weather")
        answer = create([{"role": "user", "content": "How is the weather in Oslo?"},
                         call.model_dump(),
                         {"type": "function_call_output", "call_id": call.call_id,
                          "output": '{"temperature": 16, "condition": "sunny"}'}],
                        tools=[WEATHER, TIME])
        self.assertEqual(answer.output_text, "It is 16 degrees and sunny in Oslo.")
        # The call is read as it was sampled: nothing before the result is evaluated again.
        self.assertGreaterEqual(answer.usage.input_tokens_details.cached_tokens,
                                found.usage.input_tokens - OPENING)

    def test_results_as_lists(self):
        call = self.ask_weather().output[0]
        output = [text('{"temperature": 16, "condition": "sunny"}')]
        answer = create([{"role": "user", "content": "How is the weather in Oslo?"},
                         call.model_dump(),
                         {"type": "function_call_output", "call_id": call.call_id,
                          "output": output}], tools=[WEATHER, TIME])
        self.assertEqual(answer.output_text, "It is 16 degrees and sunny in Oslo.")

    def test_pictures_in_results(self):
        picture = {"type": "input_image", "image_url": data_url("image_009.png", "image/png"),
                   "detail": "low"}
        found = say([{"role": "user", "content": "What is in the picture?"},
                     {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                     {"type": "function_call_output", "call_id": "c", "output": [text("here"), picture]}])
        self.assertIn("green", found)

    def test_stored_conversations_with_tools(self):
        first = self.ask_weather()
        answer = create([{"type": "function_call_output", "call_id": first.output[0].call_id,
                          "output": '{"temperature": 16, "condition": "sunny"}'}],
                        previous_response_id=first.id, tools=[WEATHER, TIME])
        self.assertEqual(answer.output_text, "It is 16 degrees and sunny in Oslo.")

    def test_choices(self):
        self.assertEqual(calls(self.ask_weather(tool_choice="none")), [])
        found = create("Hello", tools=[dict(TIME, parameters=CITY)], tool_choice="required",
                       parallel_tool_calls=False)
        self.assertEqual([c.name for c in calls(found)], ["get_time"])
        for choice in ({"type": "function", "name": "get_time"},
                       {"type": "allowed_tools", "mode": "required",
                        "tools": [{"type": "function", "name": "get_time"}]}):
            found = self.ask_weather(tool_choice=choice, parallel_tool_calls=False)
            self.assertEqual([c.name for c in calls(found)], ["get_time"])
        found = create("What is ice?", tools=[WEATHER], tool_choice={"type": "web_search"})
        self.assertEqual(found.output_text, "Ice is frozen water.")

    def test_streamed_calls(self):
        events = stream("How is the weather in Oslo?", tools=[WEATHER, TIME])
        self.assertEqual([k for k in kinds(events) if not k.endswith("delta")],
                         ["response.created", "response.in_progress", "response.output_item.added",
                          "response.function_call_arguments.done", "response.output_item.done",
                          "response.completed"])
        added = next(e for e in events if e.type == "response.output_item.added")
        self.assertEqual((added.item.name, added.item.arguments), ("get_weather", ""))
        deltas = "".join(e.delta for e in events
                         if e.type == "response.function_call_arguments.delta")
        done = next(e for e in events if e.type == "response.output_item.done")
        self.assertEqual(json.loads(deltas), {"city": "Oslo"})
        self.assertEqual(done.item.arguments, deltas)
        self.assertEqual(done.item.call_id, added.item.call_id)
        self.assertEqual(done.item.id, added.item.id)
        self.assertEqual(events[-1].response.output[0].call_id, added.item.call_id)

    def test_custom_tools_take_text(self):
        tool = {"type": "custom", "name": "get_weather", "description": "Says something.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: /[A-Z]+/"}}
        # The demonstration model has never seen a tool that takes free text: not with every seed
        # does it find the end of one.
        for seed in range(40):
            options = {"tools": [tool], "parallel_tool_calls": False, "temperature": 2,
                       "tool_choice": {"type": "custom", "name": "get_weather"},
                       "max_output_tokens": 64, "extra_body": {"seed": seed}}
            found = create("What is ice?", **options)
            if found.status == "completed":
                break
        call = calls(found, "custom_tool_call")[0]
        self.assertEqual(call.name, "get_weather")
        self.assertTrue(call.input)
        events = stream("What is ice?", **options)
        self.assertEqual([k for k in kinds(events) if "custom" in k],
                         ["response.custom_tool_call_input.delta",
                          "response.custom_tool_call_input.done"])
        done = next(e for e in events if e.type == "response.custom_tool_call_input.done")
        self.assertEqual(done.input, call.input)
        self.assertEqual(done.input, "".join(
            e.delta for e in events if e.type == "response.custom_tool_call_input.delta"))
        item = next(e.item for e in events if e.type == "response.output_item.done")
        self.assertEqual((item.type, item.input), ("custom_tool_call", call.input))
        again = create([{"role": "user", "content": "What is ice?"},
                        {"type": "custom_tool_call", "call_id": call.call_id, "name": call.name,
                         "input": call.input},
                        {"type": "custom_tool_call_output", "call_id": call.call_id,
                         "output": "sunny"}], tools=[tool], max_output_tokens=8)
        self.assertGreaterEqual(again.usage.input_tokens_details.cached_tokens,
                                found.usage.input_tokens - OPENING)

    def test_namespaces(self):
        tool = {"type": "namespace", "name": "mcp__home", "description": "The house.",
                "tools": [{"type": "function", "name": "weather", "parameters": CITY},
                          {"type": "custom", "name": "note"}]}
        choice = {"type": "function", "name": "weather", "namespace": "mcp__home"}
        found = create("How is the weather in Oslo?", tools=[tool], tool_choice=choice,
                       parallel_tool_calls=False)
        call = calls(found)[0]
        self.assertEqual((call.name, call.namespace), ("weather", "mcp__home"))
        again = create([{"role": "user", "content": "How is the weather in Oslo?"},
                        call.model_dump(),
                        {"type": "function_call_output", "call_id": call.call_id, "output": "ok"}],
                       tools=[tool])
        self.assertGreaterEqual(again.usage.input_tokens_details.cached_tokens,
                                found.usage.input_tokens - OPENING)

    def test_unknown_tools_are_ignored_with_a_note(self):
        tools = [{"type": t} for t in ("web_search", "web_search_preview", "local_shell",
                                       "image_generation", "apply_patch", "tool_search")]
        tools += [{"type": "file_search", "vector_store_ids": ["vs_1"]},
                  {"type": "mcp", "server_label": "x", "server_url": "https://example.com"}]
        raw = client.responses.with_raw_response.create(
            model="carat-demo", temperature=0, input="How is the weather in Oslo?",
            tools=[*tools, WEATHER])
        self.assertEqual(calls(raw.parse())[0].name, "get_weather")
        for word in ("web_search", "local_shell", "apply_patch"):
            self.assertIn(word, raw.headers["x-carat-note"])
        self.assertEqual(say("What is ice?", tools=tools), "Ice is frozen water.")

    def test_items_of_others_are_ignored_with_a_note(self):
        items = [{"type": "web_search_call", "id": "ws_1", "status": "completed",
                  "action": {"type": "search", "query": "x"}},
                 {"type": "local_shell_call", "call_id": "c", "status": "completed",
                  "action": {"type": "exec", "command": ["ls"], "env": {}}},
                 {"role": "user", "content": "What is 2 + 3?"}]
        self.assertEqual(say(items), "5")


class Structured(unittest.TestCase):
    def test_json_schema(self):
        class Answer(pydantic.BaseModel):
            city: typing.Literal["Lima", "Rome"]
            n: int = pydantic.Field(ge=0, le=99)

        found = client.responses.parse(model="carat-demo", temperature=0, max_output_tokens=100,
                                       input="What is the capital of Peru?", text_format=Answer)
        self.assertIsInstance(found.output_parsed, Answer)
        self.assertEqual(found.text.format.type, "json_schema")

    def test_json_schema_streamed(self):
        schema = {"type": "object", "properties": {"color": {"enum": ["red", "green"]}},
                  "required": ["color"], "additionalProperties": False}
        format = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
        with client.responses.stream(model="carat-demo", input="What is ice?", temperature=0,
                                     text={"format": format}) as events:
            for _ in events:
                pass
            final = events.get_final_response()
        self.assertIn(json.loads(final.output_text)["color"], ("red", "green"))

    def test_json_object(self):
        found = say("What is ice?", text={"format": {"type": "json_object"}})
        self.assertIsInstance(json.loads(found), dict)

    def test_bad_formats(self):
        for format, words in (({"type": "yaml"}, "text.format.type"),
                              ({"type": "json_schema", "name": "x"}, "text.format.schema"),
                              ({"type": "json_schema", "name": "x",
                                "schema": {"type": "unheard"}}, "type")):
            with self.assertRaises(openai.BadRequestError) as caught:
                create("x", text={"format": format})
            self.assertIn(words, str(caught.exception))


class Streams(unittest.TestCase):
    def test_events_come_in_order(self):
        events = stream("What is the capital of Colombia?")
        order = kinds(events)
        self.assertEqual(order[:4], ["response.created", "response.in_progress",
                                     "response.output_item.added", "response.content_part.added"])
        self.assertEqual(order[-4:], ["response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.completed"])
        self.assertEqual(set(order[4:-4]), {"response.output_text.delta"})
        self.assertGreater(len(order), 10)
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        deltas = [e for e in events if e.type == "response.output_text.delta"]
        self.assertEqual("".join(e.delta for e in deltas), "The capital of Colombia is Bogota.")
        self.assertEqual({(e.output_index, e.content_index) for e in deltas}, {(0, 0)})
        item = next(e for e in events if e.type == "response.output_item.done").item
        self.assertEqual({e.item_id for e in deltas}, {item.id})
        self.assertEqual(item.content[0].text, "The capital of Colombia is Bogota.")
        final = events[-1].response
        self.assertEqual(events[0].response.id, final.id)
        self.assertEqual(events[0].response.status, "in_progress")
        self.assertEqual((final.status, final.output_text), ("completed", item.content[0].text))
        self.assertGreater(final.usage.output_tokens, 4)

    def test_thoughts_have_their_events(self):
        events = stream("What is the capital of Iceland?", reasoning={"effort": "medium"})
        order = [k for k in kinds(events) if not k.endswith("delta")]
        self.assertEqual(order, ["response.created", "response.in_progress",
                                 "response.output_item.added", "response.content_part.added",
                                 "response.reasoning_text.done", "response.content_part.done",
                                 "response.output_item.done",
                                 "response.output_item.added", "response.content_part.added",
                                 "response.output_text.done", "response.content_part.done",
                                 "response.output_item.done", "response.completed"])
        deltas = [e for e in events if e.type == "response.reasoning_text.delta"]
        self.assertEqual({e.content_index for e in deltas}, {0})
        self.assertEqual("".join(e.delta for e in deltas),
                         events[-1].response.output[0].content[0].text)

    def test_equals_the_whole_answer(self):
        for input, options in (("Who are you?", {"temperature": 1, "extra_body": {"seed": 5}}),
                               ("What is 8 plus 2?", {"reasoning": {"effort": "low"}}),
                               ("How is the weather in Oslo?", {"tools": [WEATHER, TIME]})):
            self.assertEqual(shape(stream(input, **options)[-1].response),
                             shape(create(input, **options)))

    def test_length_ends_as_incomplete(self):
        events = stream("Who are you?", max_output_tokens=3)
        self.assertEqual(events[-1].type, "response.incomplete")
        self.assertEqual(events[-1].response.incomplete_details.reason, "max_output_tokens")
        self.assertIn("response.output_item.done", kinds(events))

    def test_stream_helper_of_the_client(self):
        with client.responses.stream(model="carat-demo", temperature=0,
                                     input="How is the weather in Oslo?", tools=[WEATHER],
                                     reasoning={"effort": "low", "summary": "auto"}) as events:
            snapshots = [e.snapshot for e in events
                         if e.type == "response.function_call_arguments.delta"]
            final = events.get_final_response()
        self.assertEqual(json.loads(snapshots[-1]), {"city": "Oslo"})
        self.assertEqual(final.output[-1].name, "get_weather")

    def test_names_of_events_are_those_of_the_data(self):
        _, headers, data = server.request("/v1/responses", {"input": "What is ice?", "stream": True,
                                                            "temperature": 0})
        self.assertEqual(headers["Content-Type"].split(";")[0], "text/event-stream")
        blocks = data.decode().strip().split("\n\n")
        for block in blocks:
            name, value = block.split("\n")
            self.assertEqual(name, "event: " + json.loads(value[len("data: "):])["type"])
        self.assertTrue(blocks[-1].startswith("event: response.completed\n"))


class Stored(unittest.TestCase):
    def test_conversations_go_on(self):
        first = create("Remember: sun chair", instructions="You are carat-demo.")
        second = create("What did I tell you to remember?", previous_response_id=first.id)
        self.assertEqual(second.output_text, "sun chair")
        self.assertEqual(second.previous_response_id, first.id)
        third = create("Thanks!", previous_response_id=second.id)
        self.assertEqual(third.output_text, "You are welcome!")
        whole = create([{"role": "user", "content": "Remember: sun chair"},
                        {"role": "assistant", "content": first.output_text},
                        {"role": "user", "content": "What did I tell you to remember?"},
                        {"role": "assistant", "content": second.output_text},
                        {"role": "user", "content": "Thanks!"}])
        # The instructions of an earlier turn are not those of a later one.
        self.assertEqual(whole.usage.input_tokens, third.usage.input_tokens)

    def test_streams_are_stored(self):
        first = stream("Remember: house train")[-1].response
        self.assertEqual(say("What did I tell you to remember?", previous_response_id=first.id),
                         "house train")
        self.assertEqual(client.responses.retrieve(first.id).output_text, first.output_text)

    def test_media_stay_in_conversations(self):
        picture = {"type": "input_image", "image_url": data_url("image_009.png", "image/png"),
                   "detail": "low"}
        first = create(user(picture, text("What is in the picture?")))
        second = create("Thanks!", previous_response_id=first.id)
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens)
        self.assertGreaterEqual(second.usage.input_tokens_details.cached_tokens,
                                first.usage.input_tokens - OPENING)

    def test_get_and_delete(self):
        made = create([{"role": "developer", "content": "You are carat-demo."},
                       {"role": "user", "content": [text("What is 6 + 0?")]}])
        found = client.responses.retrieve(made.id)
        self.assertEqual(found.model_dump(), made.model_dump())
        items = client.responses.input_items.list(made.id, order="asc")
        self.assertEqual([(i.type, i.role) for i in items.data],
                         [("message", "developer"), ("message", "user")])
        self.assertEqual(items.data[0].content[0].text, "You are carat-demo.")
        self.assertTrue(all(i.id for i in items.data))
        newest = client.responses.input_items.list(made.id, limit=1)
        self.assertEqual(newest.data[0].role, "user")
        self.assertTrue(newest.has_more)
        self.assertEqual([i.role for i in client.responses.input_items.list(made.id, limit=1)],
                         ["user", "developer"])
        with self.assertRaises(openai.BadRequestError):
            client.responses.cancel(made.id)
        client.responses.delete(made.id)
        for attempt in (client.responses.retrieve, client.responses.delete,
                        client.responses.input_items.list, client.responses.cancel):
            with self.assertRaises(openai.NotFoundError):
                attempt(made.id)

    def test_not_stored_when_not_wanted(self):
        made = create("What is ice?", store=False)
        self.assertFalse(made.store)
        with self.assertRaises(openai.NotFoundError):
            client.responses.retrieve(made.id)

    def test_unknown_ones(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            create("x", previous_response_id="resp_nobody")
        self.assertEqual(caught.exception.code, "previous_response_not_found")
        self.assertEqual(caught.exception.param, "previous_response_id")
        self.assertIn("resp_nobody", str(caught.exception))
        with self.assertRaises(openai.NotFoundError) as caught:
            client.responses.retrieve("resp_nobody")
        self.assertIn("resp_nobody", str(caught.exception))

    def test_references_to_items(self):
        first = create("Remember: sun chair")
        items = [{"role": "user", "content": "Remember: sun chair"},
                 {"type": "item_reference", "id": first.output[0].id},
                 {"role": "user", "content": "What did I tell you to remember?"}]
        self.assertEqual(say(items), "sun chair")
        for bad in ("msg_nobody_0", "msg", "_", "msg__0", first.output[0].id + "7"):
            with self.assertRaises(openai.BadRequestError):
                create([{"type": "item_reference", "id": bad}])


class Refused(unittest.TestCase):
    def refused(self, words, **fields):
        with self.assertRaises(openai.BadRequestError) as caught:
            create(**{"input": "x", **fields})
        self.assertIn(words, str(caught.exception))
        self.assertEqual(caught.exception.type, "invalid_request_error")

    def test_what_would_change_the_answer(self):
        self.refused("background", background=True)
        self.refused("conversation", conversation="conv_1")
        self.refused("prompt", prompt={"id": "pmpt_1"})

    def test_wrong_types_name_their_place(self):
        self.refused("input", input=None)
        self.refused("input", input=7)
        self.refused("input", input=[])
        self.refused("input[0]", input=["x"])
        self.refused("input[1]", input=[{"role": "user", "content": "x"}, {"type": "message"}])
        self.refused("input[0].role", input=[{"role": "ghost", "content": "x"}])
        self.refused("content", input=[{"role": "user", "content": 3}])
        self.refused("content[0]", input=[{"role": "user", "content": [{"type": "input_text"}]}])
        self.refused("temperature", temperature=3)
        self.refused("max_output_tokens", max_output_tokens=0)
        self.refused("top_logprobs", top_logprobs=21)
        self.refused("reasoning", reasoning={"effort": "huge"})
        self.refused("reasoning", reasoning="high")
        self.refused("text", text="json")
        self.refused("tools", tools={"a": 1})
        self.refused("tools[0]", tools=[3])
        self.refused("tools[0]", tools=[{"type": "function", "name": "a b"}])
        self.refused("tools[1]", tools=[WEATHER, WEATHER])
        self.refused("tool_choice", tool_choice="maybe")
        self.refused("tool_choice", tools=[WEATHER],
                     tool_choice={"type": "function", "name": "nobody"})
        self.refused("arguments", input=[{"type": "function_call", "call_id": "c", "name": "f",
                                          "arguments": "[1]"}])

    def test_a_prompt_that_is_too_long(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            create("word " * 300000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")


# A request as Codex CLI makes it, and what it reads of the answer: created, item events, deltas,
# completed with an id and usage. It stops on a stream without response.completed and on items
# without output_item.done.
CODEX = {
    "model": "carat-demo",
    "instructions": "You are carat-demo.",
    "input": [
        {"type": "message", "role": "developer",
         "content": [{"type": "input_text", "text": "Filesystem sandboxing: workspace-write."}]},
        {"type": "message", "role": "user",
         "content": [{"type": "input_text", "text": "<environment_context><cwd>/tmp</cwd>"
                                                    "</environment_context>"}]},
        {"type": "message", "role": "user",
         "content": [{"type": "input_text", "text": "How is the weather in Oslo?"}]},
    ],
    "tools": [
        {"type": "function", "name": "get_weather", "strict": False,
         "description": "Get the current weather for a city.",
         "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                        "required": ["city"], "additionalProperties": False}},
        {"type": "local_shell"},
        {"type": "custom", "name": "apply_patch", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark",
                    "definition": "start: begin hunk end\nbegin: \"*** Begin Patch\" LF\n"}},
        {"type": "web_search", "external_web_access": False},
        {"type": "namespace", "name": "mcp__notes", "description": "Notes.",
         "tools": [{"type": "function", "name": "add", "strict": False, "description": "Adds.",
                    "parameters": {"type": "object", "properties": {}}}]},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "text": {"verbosity": "medium"},
    "client_metadata": {"x-codex-installation-id": "0199a213"},
    "temperature": 0,
}


class Codex(unittest.TestCase):
    def send(self, body):
        status, _, data = server.request("/v1/responses", body,
                                         headers={"Authorization": "Bearer none",
                                                  "Accept": "text/event-stream",
                                                  "OpenAI-Beta": "responses=experimental",
                                                  "originator": "codex_cli_rs",
                                                  "session_id": "0199a213"})
        self.assertEqual(status, 200, data)
        return [json.loads(line[len("data: "):]) for line in data.decode().split("\n")
                if line.startswith("data: ")]

    def read(self, events):
        """The finished items, in order, and the completed response, as that program reads them."""
        self.assertEqual(events[0]["type"], "response.created")
        self.assertIn("response", events[0])
        added, items = [], []
        for e in events:
            if e["type"] == "response.output_item.added":
                added.append(e["item"])
            elif e["type"] == "response.output_item.done":
                items.append(e["item"])
            elif e["type"] == "response.output_text.delta":
                self.assertEqual(added[-1]["type"], "message")
                self.assertIsInstance(e["delta"], str)
            elif e["type"] == "response.reasoning_summary_text.delta":
                self.assertEqual(added[-1]["type"], "reasoning")
                self.assertIsInstance(e["summary_index"], int)
        self.assertEqual([i["id"] for i in added], [i["id"] for i in items])
        for item in items:
            if item["type"] == "function_call":
                self.assertIsInstance(item["arguments"], str)
                self.assertTrue(item["name"] and item["call_id"])
            elif item["type"] == "reasoning":
                self.assertTrue(item["summary"][0]["text"])
                self.assertTrue(item["encrypted_content"])
        self.assertEqual(events[-1]["type"], "response.completed")
        response = events[-1]["response"]
        self.assertTrue(response["id"])
        usage = response["usage"]
        for value in (usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"],
                      usage["output_tokens"], usage["output_tokens_details"]["reasoning_tokens"],
                      usage["total_tokens"]):
            self.assertIsInstance(value, int)
        return items, response

    def go_on(self, body, items, response):
        """The same conversation with the tool's result, which is to be read from the cache."""
        call = items[-1]
        self.assertEqual((call["type"], call["name"]), ("function_call", "get_weather"))
        self.assertEqual(json.loads(call["arguments"]), {"city": "Oslo"})
        history = body["input"] + [{k: v for k, v in item.items() if k not in ("id", "status")}
                                   for item in items]
        history.append({"type": "function_call_output", "call_id": call["call_id"],
                        "output": '{"temperature": 16, "condition": "sunny"}'})
        items, second = self.read(self.send(dict(body, input=history)))
        self.assertGreaterEqual(second["usage"]["input_tokens_details"]["cached_tokens"],
                                response["usage"]["input_tokens"] - OPENING)
        return items

    def test_a_turn_with_a_tool(self):
        body = dict(CODEX, reasoning=None, include=[])
        items = self.go_on(body, *self.read(self.send(body)))
        self.assertEqual(items[-1]["type"], "message")

    def test_a_turn_that_thinks(self):
        body = dict(CODEX, input=CODEX["input"][-1:],
                    tools=[t for t in CODEX["tools"] if t["type"] != "custom"])
        items, response = self.read(self.send(body))
        self.assertEqual([i["type"] for i in items], ["reasoning", "function_call"])
        self.assertEqual(items[0]["summary"][0]["text"], "I call get_weather.")
        self.go_on(body, items, response)

    def test_the_form_of_later_versions(self):
        """No instructions but a developer message, ids on items, no effort."""
        body = {k: v for k, v in CODEX.items() if k not in ("instructions", "text")}
        body.update(reasoning={"summary": "auto"}, parallel_tool_calls=True, input=[
            {"type": "message", "id": "msg_1", "role": "developer",
             "content": [{"type": "input_text", "text": "You are carat-demo."}]},
            {"type": "message", "id": "msg_2", "role": "user",
             "content": [{"type": "input_text", "text": "What is the capital of Iceland?"}]}],
            tools=[{"type": "web_search", "external_web_access": True}])
        items, _ = self.read(self.send(body))
        self.assertEqual([i["type"] for i in items], ["reasoning", "message"])
        self.assertEqual(items[1]["content"][0]["text"], "The capital of Iceland is Reykjavik.")

    def test_all_tools_and_thoughts_together(self):
        items, _ = self.read(self.send(CODEX))
        self.assertEqual(items[0]["type"], "reasoning")

    def test_a_context_that_is_full_is_named(self):
        long = dict(CODEX, input=[{"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "word " * 300000}]}])
        status, _, data = server.request("/v1/responses", long)
        self.assertGreaterEqual(status, 400)
        self.assertEqual(json.loads(data)["error"]["code"], "context_length_exceeded")


if __name__ == "__main__":
    unittest.main()
