# SPDX-License-Identifier: Apache-2.0
"""Anthropic's Python client against carat serve: Messages, whole and streamed, and counting."""
import base64
import json
import unittest

import anthropic

from harness import Server
from material import (BOUNDED, OTHER_PICTURE, PERSON, PICTURE, TIME, WEATHER, check_person,
                      in_base64, read)

SUM = [{"role": "user", "content": "What is 8 plus 2?"}]
GREEDY = {"temperature": 0}
THINKS = {"type": "enabled", "budget_tokens": 1024}


def tool(row):
    name, description, schema = row
    return {"name": name, "description": description, "input_schema": schema}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def picture(name):
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                        "data": in_base64(name)}}


def text(words, **more):
    return dict({"type": "text", "text": words}, **more)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.client = anthropic.Anthropic(base_url=cls.server.url, api_key="none", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.stop()

    def create(self, messages, **more):
        """The newest client has no arguments for sampling: they go beside the others."""
        options = dict({"model": "carat-demo", "max_tokens": 200}, **more)
        sampling = {k: options.pop(k) for k in ("top_k", "top_p") if k in options}
        sampling["temperature"] = options.pop("temperature", 0)
        options["extra_body"] = dict(options.get("extra_body", {}), **sampling)
        return self.client.messages.create(messages=messages, **options)

    def say(self, *messages, **more):
        """The text of an answer that has nothing else."""
        answer = self.create(list(messages), **more)
        self.assertEqual([b.type for b in answer.content], ["text"])
        return answer.content[0].text

    def events(self, messages, **more):
        return list(self.create(messages, stream=True, **more))

    def refused(self, kind, words, **request):
        with self.assertRaises(kind) as caught:
            self.create(**dict({"model": "m", "max_tokens": 5}, **request))
        body = caught.exception.body
        self.assertEqual(body["type"], "error")
        self.assertIn(words, body["error"]["message"])
        return body["error"]["type"]


class Text(Case):
    def test_message(self):
        answer = self.create(SUM)
        self.assertEqual((answer.type, answer.role, answer.model), ("message", "assistant", "carat-demo"))
        self.assertTrue(answer.id.startswith("msg_"))
        self.assertEqual([b.to_dict() for b in answer.content], [{"type": "text", "text": "10"}])
        self.assertEqual((answer.stop_reason, answer.stop_sequence), ("end_turn", None))
        self.assertTrue(answer._request_id)
        usage = answer.usage
        counted = self.client.messages.count_tokens(model="carat-demo", messages=SUM).input_tokens
        self.assertEqual(usage.input_tokens + usage.cache_read_input_tokens, counted)
        self.assertTrue(2 <= usage.output_tokens <= 4, usage)

    def test_what_was_read_before_counts_as_cached(self):
        messages = [user(text("Remember: house train")),
                    {"role": "assistant", "content": "I will remember."},
                    user(text("What did I tell you to remember?"))]
        self.create(messages)
        usage = self.create(messages).usage
        self.assertGreater(usage.cache_read_input_tokens, usage.input_tokens)

    def test_system_is_text_or_blocks(self):
        system = "You are carat-demo. Be friendly."
        blocks = [text("You are carat-demo.", cache_control={"type": "ephemeral"}),
                  text("Be friendly.")]
        count = self.client.messages.count_tokens
        bare = count(model="m", messages=SUM).input_tokens
        self.assertGreater(count(model="m", messages=SUM, system=system).input_tokens, bare + 5)
        self.assertGreater(count(model="m", messages=SUM, system=blocks).input_tokens, bare + 5)
        self.assertEqual(self.say(*SUM, system=blocks), "10")

    def test_bookkeeping_at_the_front_of_the_system_does_not_undo_the_cache(self):
        count = self.client.messages.count_tokens
        system = [text("x-anthropic-billing-header: cc_version=2.1; cch=4f1d2;"), text("Be brief.")]
        self.assertEqual(count(model="m", messages=SUM, system=system).input_tokens,
                         count(model="m", messages=SUM, system="Be brief.").input_tokens)

    def test_turns_of_one_role_are_joined(self):
        split = [user(text("Remember: house train")), {"role": "assistant", "content": "I will remember."},
                 {"role": "user", "content": "Thanks!"}, user(text("What did I tell you to remember?"))]
        joined = split[:2] + [user(text("Thanks!\n\nWhat did I tell you to remember?"))]
        count = self.client.messages.count_tokens
        self.assertEqual(count(model="m", messages=split), count(model="m", messages=joined))

    def test_answer_that_was_begun_goes_on(self):
        begun = {"role": "assistant", "content": "The capital of Peru"}
        found = self.say({"role": "user", "content": "Tell me the capital of Peru."}, begun)
        self.assertEqual(found.strip(), "is Lima.")

    def test_stop_sequence(self):
        answer = self.create([{"role": "user", "content": "Repeat: cloud lamp"}], stop_sequences=["lamp", "zz"])
        self.assertEqual((answer.stop_reason, answer.stop_sequence), ("stop_sequence", "lamp"))
        self.assertEqual(answer.content[0].text.strip(), "cloud")

    def test_max_tokens(self):
        answer = self.create([{"role": "user", "content": "Are you human?"}], max_tokens=3)
        self.assertEqual((answer.stop_reason, answer.usage.output_tokens), ("max_tokens", 3))
        warmed = self.create([{"role": "user", "content": "Are you human?"}], max_tokens=0)
        self.assertEqual((warmed.content, warmed.usage.output_tokens), ([], 0))

    def test_sampling_and_what_is_ignored(self):
        found = self.say(*SUM, temperature=1.0, top_k=1, top_p=0.9, metadata={"user_id": "u"},
                         service_tier="auto", extra_body={"unheard_of": [1]},
                         extra_headers={"anthropic-beta": "something-2026-01-01"})
        self.assertEqual(found, "10")

    def test_models(self):
        self.assertEqual([m.id for m in self.client.models.list()], ["carat-demo"])
        self.assertEqual(self.client.models.retrieve("carat-demo").display_name, "carat-demo")


class Streams(Case):
    def test_order_of_events(self):
        events = self.events(SUM)
        types = [e.type for e in events]
        n = types.count("content_block_delta")
        self.assertGreater(n, 0)
        self.assertEqual(types, ["message_start", "content_block_start", *["content_block_delta"] * n,
                                 "content_block_stop", "message_delta", "message_stop"])
        start, end = events[0].message, events[-2]
        self.assertEqual((start.content, start.stop_reason, start.usage.output_tokens), ([], None, 0))
        self.assertGreater(start.usage.input_tokens + start.usage.cache_read_input_tokens, 10)
        self.assertEqual("".join(e.delta.text for e in events if e.type == "content_block_delta"), "10")
        self.assertEqual(end.delta.stop_reason, "end_turn")
        self.assertGreater(end.usage.output_tokens, 1)

    def test_names_of_events_and_ping(self):
        body = {"model": "m", "max_tokens": 9, "stream": True, "messages": SUM}
        status, headers, data = self.server.request("/v1/messages?beta=true", body)
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        blocks = [b.split("\n") for b in data.decode().strip().split("\n\n")]
        for name, content in blocks:
            self.assertEqual(name, "event: " + json.loads(content[len("data: "):])["type"])
        self.assertIn(["event: ping", 'data: {"type":"ping"}'], blocks)

    def test_helper_gathers_the_same_message(self):
        whole = self.create(SUM, thinking=THINKS)
        with self.client.messages.stream(model="carat-demo", max_tokens=200, extra_body=GREEDY,
                                         messages=SUM, thinking=THINKS) as stream:
            words = "".join(stream.text_stream)
            gathered = stream.get_final_message()
        self.assertEqual(words, "10")
        self.assertEqual([b.to_dict() for b in gathered.content], [b.to_dict() for b in whole.content])
        self.assertEqual(gathered.stop_reason, whole.stop_reason)
        self.assertEqual(gathered.usage.output_tokens, whole.usage.output_tokens)

    def test_tool_use(self):
        with self.client.messages.stream(
                model="carat-demo", max_tokens=200, extra_body=GREEDY, tools=[tool(WEATHER), tool(TIME)],
                messages=[{"role": "user", "content": "How is the weather in Oslo?"}]) as stream:
            types = [e.type for e in stream]
            message = stream.get_final_message()
        self.assertIn("input_json", types)
        self.assertEqual(message.stop_reason, "tool_use")
        self.assertEqual([(b.type, b.name, b.input) for b in message.content],
                         [("tool_use", "get_weather", {"city": "Oslo"})])

    def test_stop_sequence(self):
        events = self.events([{"role": "user", "content": "Repeat: cloud lamp"}], stop_sequences=["lamp"])
        self.assertEqual((events[-2].delta.stop_reason, events[-2].delta.stop_sequence),
                         ("stop_sequence", "lamp"))

    def test_async_client(self):
        import asyncio

        async def ask():
            async with anthropic.AsyncAnthropic(base_url=self.server.url, api_key="none") as client:
                answers = await asyncio.gather(*[
                    client.messages.create(model="m", max_tokens=20, extra_body=GREEDY, messages=SUM)
                    for _ in range(4)])
                return [a.content[0].text for a in answers]
        self.assertEqual(asyncio.run(ask()), ["10"] * 4)


class Thoughts(Case):
    def test_block_with_signature(self):
        answer = self.create(SUM, thinking=THINKS)
        self.assertEqual([b.type for b in answer.content], ["thinking", "text"])
        self.assertIn("8 + 2", answer.content[0].thinking)
        self.assertTrue(answer.content[0].signature)
        self.assertEqual(answer.content[1].text, "10")
        self.assertGreater(answer.usage.output_tokens_details.thinking_tokens, 5)

    def test_order_in_a_stream(self):
        events = self.events(SUM, thinking={"type": "adaptive"})
        deltas = [e.delta.type for e in events if e.type == "content_block_delta"]
        n = deltas.count("thinking_delta")
        self.assertEqual(deltas[:n + 2], ["thinking_delta"] * n + ["signature_delta", "text_delta"])
        self.assertEqual([(e.index, e.content_block.type) for e in events if e.type == "content_block_start"],
                         [(0, "thinking"), (1, "text")])

    def test_off(self):
        for thinking in {"type": "disabled"}, anthropic.NOT_GIVEN:
            self.assertEqual([b.type for b in self.create(SUM, thinking=thinking).content], ["text"])

    def test_handed_back(self):
        first = self.create(SUM, thinking=THINKS)
        again = self.create(SUM + [first.to_param(), {"role": "user", "content": "Add 3 and 4."}], thinking=THINKS)
        self.assertEqual(again.content[-1].text, "7")
        redacted = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "abc"}, text("10")]}
        self.assertEqual(self.say(*SUM, redacted, {"role": "user", "content": "Add 3 and 4."}), "7")

    def test_omitted_thoughts_are_in_the_signature(self):
        hidden = {"type": "adaptive", "display": "omitted"}
        block = self.create(SUM, thinking=hidden).content[0]
        shown = self.create(SUM, thinking=THINKS).content[0]
        self.assertEqual((block.type, block.thinking), ("thinking", ""))
        carried = block.signature.split("-", 2)[2]
        carried += "=" * (-len(carried) % 4)
        self.assertEqual(base64.urlsafe_b64decode(carried).decode(), shown.thinking)
        streamed = [e.delta for e in self.events(SUM, thinking=hidden) if e.type == "content_block_delta"]
        self.assertEqual(streamed[0].type, "signature_delta")
        self.assertEqual(streamed[0].signature, block.signature)

    def test_budget(self):
        answer = self.create(SUM, thinking={"type": "enabled", "budget_tokens": 4})
        self.assertLess(answer.usage.output_tokens_details.thinking_tokens, 8)
        self.assertEqual(answer.content[-1].type, "text")


class Media(Case):
    def test_pictures(self):
        for name, question, expected in PICTURE, OTHER_PICTURE:
            self.assertEqual(self.say(user(picture(name), text(question))), expected)

    def test_picture_by_data_address_and_no_other(self):
        name, question, expected = PICTURE
        block = {"type": "image", "source": {"type": "url", "url": "data:image/png;base64," + in_base64(name)}}
        self.assertEqual(self.say(user(block, text(question))), expected)
        block["source"]["url"] = "http://127.0.0.1:9/picture.png"
        self.refused(anthropic.BadRequestError, "messages[0].content[0]", messages=[user(block)])

    def test_broken_picture(self):
        block = picture(PICTURE[0])
        block["source"]["data"] = base64.b64encode(read(PICTURE[0])[:200]).decode()
        self.refused(anthropic.BadRequestError, "messages[0].content[0]", messages=[user(block)])
        block["source"]["data"] = "!!!"
        self.refused(anthropic.BadRequestError, "messages[0].content[0]", messages=[user(block)])

    def test_documents(self):
        sources = ({"type": "text", "media_type": "text/plain", "data": "Opposite of cold?"},
                   {"type": "base64", "media_type": "text/plain",
                    "data": base64.b64encode(b"Opposite of cold?").decode()},
                   {"type": "content", "content": [text("Opposite of cold?")]})
        for source in sources:
            block = {"type": "document", "source": source, "citations": {"enabled": False}}
            self.assertEqual(self.say(user(block)), "The opposite of cold is hot.")
        pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                              "data": base64.b64encode(b"%PDF-1.7 ...").decode()}}
        self.refused(anthropic.BadRequestError, "PDF", messages=[user(pdf)])


class Tools(Case):
    QUESTION = {"role": "user", "content": "What's the weather like in Bangkok?"}
    TOOLS = [tool(WEATHER), tool(TIME)]

    def result(self, use, content, **more):
        return dict({"type": "tool_result", "tool_use_id": use.id, "content": content}, **more)

    def test_round_trip(self):
        answer = self.create([self.QUESTION], tools=self.TOOLS)
        self.assertEqual(answer.stop_reason, "tool_use")
        use = answer.content[-1]
        self.assertEqual((use.type, use.name, use.input), ("tool_use", "get_weather", {"city": "Bangkok"}))
        self.assertTrue(use.id.startswith("toolu_"))
        result = '{"temperature": 16, "condition": "sunny"}'
        for content in result, [text(result)]:
            history = [self.QUESTION, answer.to_param(), user(self.result(use, content))]
            self.assertEqual(self.say(*history, tools=self.TOOLS), "It is 16 degrees and sunny in Bangkok.")

    def test_call_is_replayed_as_sampled(self):
        # With a thought, as without one the template closes an empty thought before the answer.
        answer = self.create([self.QUESTION], tools=self.TOOLS, thinking=THINKS)
        history = [self.QUESTION, answer.to_param(), user(self.result(answer.content[-1], "sunny"))]
        usage = self.create(history, tools=self.TOOLS, max_tokens=1, thinking=THINKS).usage
        before = answer.usage
        read = before.input_tokens + before.cache_read_input_tokens + before.output_tokens
        self.assertGreaterEqual(usage.cache_read_input_tokens, read - 2)

    def test_results_of_all_kinds(self):
        use = {"type": "tool_use", "id": "toolu_x", "name": "get_weather", "input": {"city": "Oslo"}}
        shown = [{"type": "tool_result", "tool_use_id": "toolu_x", "content": c} for c in
                 ("rain", [text("rain")], [text("rain"), picture(PICTURE[0])])]
        shown += [{"type": "tool_result", "tool_use_id": "toolu_x"},
                  {"type": "tool_result", "tool_use_id": "toolu_x", "content": "no network", "is_error": True}]
        counts = []
        for block in shown:
            history = [self.QUESTION, {"role": "assistant", "content": [text("Let me look."), use]},
                       user(text("And now?"), block)]
            counts.append(self.client.messages.count_tokens(model="m", messages=history,
                                                            tools=self.TOOLS).input_tokens)
        self.assertEqual(counts[0], counts[1])
        self.assertGreater(counts[2], counts[1] + 20)  # the picture's soft tokens
        self.assertLess(counts[3], counts[0])
        self.assertGreater(counts[4], counts[3])

    def test_choice(self):
        greeting = [{"role": "user", "content": "How are you?"}]
        bounded = [dict(t, input_schema=BOUNDED) for t in self.TOOLS]
        answer = self.create(greeting, tools=bounded)
        self.assertEqual([b.type for b in answer.content], ["text"])
        answer = self.create(greeting, tools=bounded, tool_choice={"type": "any"})
        self.assertEqual({b.type for b in answer.content}, {"tool_use"})
        answer = self.create(greeting, tools=bounded, tool_choice={
            "type": "tool", "name": "get_weather", "disable_parallel_tool_use": True})
        self.assertEqual([(b.type, b.name, list(b.input)) for b in answer.content],
                         [("tool_use", "get_weather", ["city"])])
        self.assertIn(answer.content[0].input["city"], ("Oslo", "Rome"))
        answer = self.create([self.QUESTION], tools=self.TOOLS, tool_choice={"type": "none"})
        self.assertNotIn("tool_use", [b.type for b in answer.content])
        self.refused(anthropic.BadRequestError, "tool_choice", messages=SUM, tools=self.TOOLS,
                     tool_choice={"type": "tool", "name": "get_lunch"})

    def test_choice_with_thinking(self):
        answer = self.create([self.QUESTION], tools=self.TOOLS, tool_choice={"type": "any"}, thinking=THINKS)
        self.assertEqual(answer.content[-1].type, "tool_use")

    def test_unknown_tools_are_passed_over(self):
        raw = self.client.messages.with_raw_response.create(
            model="m", max_tokens=60, extra_body=GREEDY, messages=[self.QUESTION],
            tools=[{"type": "web_search_20250305", "name": "web_search"}, *self.TOOLS])
        self.assertIn("web_search_20250305", raw.headers["X-Carat-Note"])
        self.assertEqual(raw.parse().content[-1].name, "get_weather")

    def test_tool_runner(self):
        asked = []

        @anthropic.beta_tool
        def add(a: int, b: int) -> str:
            """Add two numbers."""
            asked.append((a, b))
            return json.dumps({"result": a + b})
        runner = self.client.beta.messages.tool_runner(
            model="m", max_tokens=100, extra_body=GREEDY, tools=[add],
            messages=[{"role": "user", "content": "What is 285 + 613?"}])
        final = runner.until_done()
        self.assertEqual(asked, [(285, 613)])
        self.assertEqual(final.content[0].text, "The result is 898.")

    def test_threads_are_declined_so_that_clients_go_on_without(self):
        thread = self.client.beta.messages.thread(model="m", max_tokens=50, extra_body=GREEDY,
                                                  unsupported_request_behavior="continue_unthreaded")
        self.assertEqual(thread.send(*SUM).content[0].text, "10")
        self.assertEqual(thread.send({"role": "user", "content": "Add 3 and 4."}).content[0].text, "7")
        self.assertEqual([m["role"] for m in thread.messages], ["user", "assistant"] * 2)


class Structured(Case):
    def test_schema(self):
        question = {"role": "user", "content": "Who are you?"}
        for thinking in anthropic.NOT_GIVEN, THINKS:
            answer = self.create([question], max_tokens=400, thinking=thinking,
                                 output_config={"format": {"type": "json_schema", "schema": PERSON}})
            check_person(self, json.loads(answer.content[-1].text))

    def test_parse_helper(self):
        import pydantic

        class Answer(pydantic.BaseModel):
            yes: bool
            number: int
        message = self.client.messages.parse(model="m", max_tokens=300, extra_body=GREEDY, messages=SUM,
                                             output_format=Answer)
        self.assertIsInstance(message.parsed_output, Answer)


class Refusals(Case):
    def test_bad_requests(self):
        rows = (("messages", {"messages": []}),
                ("messages[0].role", {"messages": [{"role": "robot", "content": "x"}]}),
                ("messages[1]", {"messages": [*SUM, {"role": "assistant", "content": 5}]}),
                ("messages[0].content[0]", {"messages": [user({"type": "sculpture"})]}),
                ("messages[0].content[0]", {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]}),
                ("max_tokens", {"messages": SUM, "max_tokens": -1}),
                ("temperature", {"messages": SUM, "temperature": 9}),
                ("tools[0]", {"messages": SUM, "tools": [{"name": "x"}]}),
                ("thinking", {"messages": SUM, "thinking": {"type": "deeply"}}),
                ("stop_sequences", {"messages": SUM, "stop_sequences": [1]}),
                ("system", {"messages": SUM, "system": 4}))
        for words, request in rows:
            with self.subTest(words=words):
                kind = self.refused(anthropic.BadRequestError, words.split(".")[0], **request)
                self.assertEqual(kind, "invalid_request_error")

    def test_too_long(self):
        long = [{"role": "user", "content": "word " * 5000}]
        self.refused(anthropic.BadRequestError, "too long", messages=long)
        self.assertGreater(self.client.messages.count_tokens(model="m", messages=long).input_tokens, 5000)

    def test_key(self):
        with Server(["--api-key", "right"]) as server:
            wrong = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
            with self.assertRaises(anthropic.AuthenticationError):
                wrong.messages.create(model="m", max_tokens=5, messages=SUM)
            right = anthropic.Anthropic(base_url=server.url, api_key="right", max_retries=0)
            self.assertTrue(right.messages.create(model="m", max_tokens=5, messages=SUM).content)
            bearer = anthropic.Anthropic(base_url=server.url, auth_token="right", max_retries=0)
            self.assertTrue(bearer.messages.create(model="m", max_tokens=5, messages=SUM).content)


if __name__ == "__main__":
    unittest.main()
