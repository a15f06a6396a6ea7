# SPDX-License-Identifier: Apache-2.0
"""Google's Python client against carat serve: generateContent, whole and streamed, and the rest."""
import asyncio
import base64
import enum
import json
import math
import typing
import unittest

import pydantic
from google import genai
from google.genai import errors, types

from harness import Server
from material import (BOUNDED, FILM, OTHER_PICTURE, PICTURE, SOUND, TIME, WEATHER, check_person, in_base64, read)

MODEL = "carat-demo"
SUM = "What is 8 plus 2?"
THINKS = types.ThinkingConfig(include_thoughts=True)
NO_AFC = types.AutomaticFunctionCallingConfig(disable=True)


def declaration(row):
    """As this API writes schemas: types in capitals."""
    name, description, schema = row
    return types.FunctionDeclaration(name=name, description=description, parameters=types.Schema(
        type="OBJECT", required=schema["required"], properties={
            k: types.Schema(type=v["type"].upper(), description=v.get("description"), enum=v.get("enum"))
            for k, v in schema["properties"].items()}))


def part(name, mime):
    return types.Part.from_bytes(data=read(name), mime_type=mime)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.client = genai.Client(api_key="none", http_options=types.HttpOptions(
            base_url=cls.server.url, retry_options=types.HttpRetryOptions(attempts=1)))

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.stop()

    def options(self, more):
        return types.GenerateContentConfig(**dict({"temperature": 0, "automatic_function_calling": NO_AFC}, **more))

    def ask(self, contents, **more):
        return self.client.models.generate_content(model=MODEL, contents=contents, config=self.options(more))

    def stream(self, contents, **more):
        return list(self.client.models.generate_content_stream(model=MODEL, contents=contents,
                                                               config=self.options(more)))

    def post(self, method, body, status=200, query=""):
        return self.server.json(f"/v1beta/models/{MODEL}:{method}{query}", body, status=status)


class Text(Case):
    def test_whole(self):
        answer = self.ask(SUM)
        self.assertEqual(answer.text, "10")
        candidate, = answer.candidates
        self.assertEqual((candidate.finish_reason, candidate.content.role, candidate.index),
                         (types.FinishReason.STOP, "model", 0))
        self.assertEqual(answer.model_version, MODEL)
        self.assertTrue(answer.response_id)
        usage = answer.usage_metadata
        self.assertEqual(usage.prompt_token_count,
                         self.client.models.count_tokens(model=MODEL, contents=SUM).total_tokens)
        self.assertEqual(usage.total_token_count, usage.prompt_token_count + usage.candidates_token_count)
        self.assertGreater(self.ask(SUM).usage_metadata.cached_content_token_count, 10)

    def test_stream(self):
        chunks = self.stream(SUM)
        self.assertEqual("".join(c.text or "" for c in chunks), "10")
        reasons = [c.candidates[0].finish_reason for c in chunks]
        self.assertEqual(reasons[-1], types.FinishReason.STOP)
        self.assertEqual(set(reasons[:-1]), {None})
        self.assertEqual(chunks[-1].usage_metadata.candidates_token_count,
                         self.ask(SUM).usage_metadata.candidates_token_count)

    def test_stream_as_an_array(self):
        body = {"contents": [{"parts": [{"text": SUM}]}], "generationConfig": {"temperature": 0}}
        status, headers, data = self.server.request(f"/v1beta/models/{MODEL}:streamGenerateContent", body)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        chunks = json.loads(data)
        text = "".join(p["text"] for c in chunks for p in c["candidates"][0]["content"]["parts"])
        self.assertEqual((text, chunks[-1]["candidates"][0]["finishReason"]), ("10", "STOP"))
        status, headers, data = self.server.request(f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse", body)
        self.assertEqual(headers["Content-Type"], "text/event-stream")
        events = [json.loads(e[len("data: "):]) for e in data.decode().strip().split("\n\n")]
        self.assertEqual(len(events), len(chunks))

    def test_conversation(self):
        contents = [types.UserContent("Remember: house train"), types.ModelContent("I will remember."),
                    types.UserContent("What did I tell you to remember?")]
        self.assertEqual(self.ask(contents).text, "house train")
        chat = self.client.chats.create(model=MODEL, config=self.options({}))
        self.assertEqual(chat.send_message("Opposite of cold?").text, "The opposite of cold is hot.")
        self.assertEqual(chat.send_message("Opposite of small?").text, "The opposite of small is big.")

    def test_system_instruction(self):
        count = self.post("countTokens", {"contents": [{"parts": [{"text": SUM}]}]})["totalTokens"]
        for system in "You are carat-demo.", [types.Part(text="You are"), types.Part(text="carat-demo.")]:
            answer = self.ask(SUM, system_instruction=system)
            self.assertEqual(answer.text, "10")
            self.assertGreater(answer.usage_metadata.prompt_token_count, count + 3)

    def test_config(self):
        repeat = "Repeat: cloud lamp"
        self.assertEqual(self.ask(repeat, stop_sequences=["lamp"]).text.strip(), "cloud")
        cut = self.ask(repeat, max_output_tokens=1)
        self.assertEqual(cut.candidates[0].finish_reason, types.FinishReason.MAX_TOKENS)
        story, hot = "Write a story about a owl.", {"temperature": 2, "top_p": 1, "top_k": 0, "max_output_tokens": 30}
        said = {seed: [self.ask(story, seed=seed, **hot).text for _ in range(2)] for seed in (0, 7, 8)}
        for first, second in said.values():
            self.assertEqual(first, second)
        self.assertEqual(len({first for first, _ in said.values()}), 3)
        self.assertEqual(self.ask(SUM, presence_penalty=0.5, frequency_penalty=0.5, safety_settings=[
            types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")]).text, "10")

    def test_candidates(self):
        answer = self.ask("Write a story about a owl.", candidate_count=3, seed=5, temperature=2, top_k=0,
                          top_p=1, max_output_tokens=20)
        self.assertEqual([c.index for c in answer.candidates], [0, 1, 2])
        self.assertEqual(len({c.content.parts[0].text for c in answer.candidates}), 3)
        chunks = self.stream(SUM, candidate_count=2)
        for i in range(2):
            text = "".join(p.text for c in chunks for d in c.candidates if (d.index or 0) == i for p in d.content.parts)
            self.assertEqual(text, "10")

    def test_logprobs(self):
        candidate = self.ask(SUM, response_logprobs=True, logprobs=2).candidates[0]
        result = candidate.logprobs_result
        self.assertEqual("".join(c.token for c in result.chosen_candidates), "10")
        for chosen, top in zip(result.chosen_candidates, result.top_candidates, strict=True):
            self.assertEqual(len(top.candidates), 2)
            self.assertEqual(top.candidates[0].token_id, chosen.token_id)
            self.assertLessEqual(chosen.log_probability, 0)
        mean = sum(c.log_probability for c in result.chosen_candidates) / len(result.chosen_candidates)
        self.assertAlmostEqual(candidate.avg_logprobs, mean, places=4)

    def test_thinking(self):
        answer = self.ask(SUM, thinking_config=THINKS)
        thought, text = answer.candidates[0].content.parts
        self.assertTrue(thought.thought)
        self.assertIn("8 + 2", thought.text)
        self.assertEqual((text.text, answer.text), ("10", "10"))
        usage = answer.usage_metadata
        self.assertGreater(usage.thoughts_token_count, 5)
        self.assertEqual(usage.total_token_count, usage.prompt_token_count + usage.candidates_token_count
                         + usage.thoughts_token_count)
        parts = [p for c in self.stream(SUM, thinking_config=THINKS) for p in c.candidates[0].content.parts]
        self.assertEqual("".join(p.text for p in parts if p.thought), thought.text)
        self.assertEqual("".join(p.text for p in parts if not p.thought), "10")
        hidden = self.ask(SUM, thinking_config=types.ThinkingConfig(thinking_budget=-1))
        self.assertEqual([p.text for p in hidden.candidates[0].content.parts], ["10"])
        self.assertGreater(hidden.usage_metadata.thoughts_token_count, 5)
        off = self.ask(SUM, thinking_config=types.ThinkingConfig(thinking_budget=0))
        self.assertIsNone(off.usage_metadata.thoughts_token_count)
        again = [types.UserContent(SUM), answer.candidates[0].content, types.UserContent("Add 3 and 4.")]
        self.assertEqual(self.ask(again, thinking_config=THINKS).text, "7")

    def test_names_in_snake_case(self):
        body = {"contents": [{"role": "user", "parts": [{"inline_data": {
                    "mime_type": "image/png", "data": in_base64(PICTURE[0])}}, {"text": PICTURE[1]}]}],
                "system_instruction": {"parts": [{"text": "You are carat-demo."}]},
                "generation_config": {"temperature": 0, "max_output_tokens": 2}}
        candidate = self.post("generateContent", body)["candidates"][0]
        self.assertEqual(candidate["finishReason"], "MAX_TOKENS")
        self.assertTrue(PICTURE[2].startswith(candidate["content"]["parts"][0]["text"]))

    def test_async_client(self):
        async def ask():
            asks = [self.client.aio.models.generate_content(model=MODEL, contents=SUM, config=self.options({}))
                    for _ in range(4)]
            answers = [a.text for a in await asyncio.gather(*asks)]
            stream = await self.client.aio.models.generate_content_stream(model=MODEL, contents=SUM,
                                                                          config=self.options({}))
            answers.append("".join([c.text or "" async for c in stream]))
            return answers
        self.assertEqual(asyncio.run(ask()), ["10"] * 5)


class Media(Case):
    def test_pictures_sound_and_film(self):
        for (name, question, expected), mime in ((PICTURE, "image/png"), (OTHER_PICTURE, "image/png"),
                                                 (SOUND, "audio/wav"), (FILM, "video/mp4")):
            self.assertEqual(self.ask([part(name, mime), question],
                                      media_resolution="MEDIA_RESOLUTION_LOW").text, expected)

    def test_addresses(self):
        name, question, expected = PICTURE
        uri = "data:image/png;base64," + in_base64(name)
        self.assertEqual(self.ask([types.Part.from_uri(file_uri=uri, mime_type="image/png"), question]).text, expected)
        with self.assertRaises(errors.ClientError) as caught:
            self.ask([types.Part.from_uri(file_uri="https://example.org/x.png", mime_type="image/png"), question])
        self.assertIn("contents[0].parts[0]", caught.exception.message)

    def test_broken(self):
        for data, mime in ((read(PICTURE[0])[:300], "image/png"), (b"%PDF-1.7", "application/pdf")):
            with self.assertRaises(errors.ClientError) as caught:
                self.ask([types.Part.from_bytes(data=data, mime_type=mime), "?"])
            self.assertEqual((caught.exception.code, caught.exception.status), (400, "INVALID_ARGUMENT"))


class Tools(Case):
    TOOLS = [types.Tool(function_declarations=[declaration(WEATHER), declaration(TIME)])]
    QUESTION = "What's the weather like in Bangkok?"

    def mode(self, mode, *names):
        return types.ToolConfig(function_calling_config=types.FunctionCallingConfig(
            mode=mode, allowed_function_names=list(names) or None))

    def test_round_trip(self):
        answer = self.ask(self.QUESTION, tools=self.TOOLS)
        call, = answer.function_calls
        self.assertEqual((call.name, call.args), ("get_weather", {"city": "Bangkok"}))
        self.assertTrue(call.id)
        self.assertEqual(answer.candidates[0].finish_reason, types.FinishReason.STOP)
        result = types.Part.from_function_response(name="get_weather",
                                                   response={"temperature": 16, "condition": "sunny"})
        history = [types.UserContent(self.QUESTION), answer.candidates[0].content, types.UserContent(result)]
        self.assertEqual(self.ask(history, tools=self.TOOLS).text, "It is 16 degrees and sunny in Bangkok.")

    def test_in_a_stream(self):
        calls = [p.function_call for c in self.stream(self.QUESTION, tools=self.TOOLS)
                 for p in c.candidates[0].content.parts if p.function_call]
        self.assertEqual([(c.name, c.args) for c in calls], [("get_weather", {"city": "Bangkok"})])

    def test_functions_are_called_by_the_client(self):
        asked = []

        def add(a: int, b: int) -> int:
            """Add two numbers."""
            asked.append((a, b))
            return a + b  # the client sends {"result": ...}
        config = types.GenerateContentConfig(temperature=0, tools=[add])
        answer = self.client.models.generate_content(model=MODEL, contents="What is 774 plus 140?", config=config)
        self.assertEqual((asked, answer.text), ([(774, 140)], "The result is 914."))

    def test_call_is_replayed_as_sampled(self):
        asks = dict(tools=self.TOOLS, thinking_config=THINKS)
        first = self.ask(self.QUESTION, **asks)
        content = first.candidates[0].content
        for p in content.parts:
            if p.function_call:
                p.function_call.id = None
        history = [types.UserContent(self.QUESTION), content, types.UserContent(
            types.Part.from_function_response(name="get_weather", response={"sky": "grey"}))]
        usage = self.ask(history, **asks).usage_metadata
        self.assertGreaterEqual(usage.cached_content_token_count, first.usage_metadata.total_token_count - 2)

    def test_modes(self):
        greeting = "How are you?"
        self.assertIsNone(self.ask(greeting, tools=self.TOOLS).function_calls)
        bounded = [types.Tool(function_declarations=[declaration(row[:2] + (BOUNDED,)) for row in (WEATHER, TIME)])]
        self.assertTrue(self.ask(greeting, tools=bounded, tool_config=self.mode("ANY")).function_calls)
        only = self.ask(self.QUESTION, tools=bounded, tool_config=self.mode("ANY", "get_time"))
        self.assertEqual({c.name for c in only.function_calls}, {"get_time"})
        self.assertIsNone(self.ask(self.QUESTION, tools=self.TOOLS, tool_config=self.mode("NONE")).function_calls)
        with self.assertRaises(errors.ClientError):
            self.ask(self.QUESTION, tools=self.TOOLS, tool_config=self.mode("ANY", "get_lunch"))

    def test_tools_of_the_service_are_passed_over(self):
        body = {"contents": [{"parts": [{"text": SUM}]}], "tools": [{"googleSearch": {}}],
                "generationConfig": {"temperature": 0}}
        status, headers, _ = self.server.request(f"/v1beta/models/{MODEL}:generateContent", body)
        self.assertEqual(status, 200)
        self.assertIn("googleSearch", headers["X-Carat-Note"])


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    age: int = pydantic.Field(ge=0, le=120)
    likes: list[typing.Literal["tea", "rain", "cats"]] = pydantic.Field(min_length=1, max_length=2)


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Structured(Case):
    def test_schemas(self):
        as_api = {"type": "OBJECT", "required": ["name", "age", "likes"],
                  "propertyOrdering": ["name", "age", "likes"],
                  "properties": {"name": {"type": "STRING", "maxLength": "12"},
                                 "age": {"type": "INTEGER", "format": "int32", "minimum": 0, "maximum": 120},
                                 "likes": {"type": "ARRAY", "minItems": "1", "maxItems": "2",
                                           "items": {"type": "STRING", "format": "enum",
                                                     "enum": ["tea", "rain", "cats"]}}}}
        body = {"contents": [{"parts": [{"text": "Who are you?"}]}], "generationConfig": {
            "temperature": 0, "responseMimeType": "application/json", "responseSchema": as_api}}
        text = self.post("generateContent", body)["candidates"][0]["content"]["parts"][0]["text"]
        check_person(self, json.loads(text))
        asks = dict(response_mime_type="application/json")
        answer = self.ask("Who are you?", response_schema=Person, **asks)
        self.assertIsInstance(answer.parsed, Person)
        answer = self.ask("Who are you?", response_json_schema=Person.model_json_schema(), **asks)
        check_person(self, json.loads(answer.text))
        answer = self.ask("Who are you?", response_schema=Person, thinking_config=THINKS, **asks)
        check_person(self, json.loads(answer.text))
        self.assertIsInstance(json.loads(self.ask("Who are you?", max_output_tokens=400, **asks).text), (dict, list))

    def test_nullable_and_choices(self):
        class Answer(pydantic.BaseModel):
            number: typing.Optional[int]
            word: typing.Union[typing.Literal["yes"], typing.Literal["no"]]
        answer = self.ask(SUM, response_mime_type="application/json", response_schema=Answer)
        self.assertIn(json.loads(answer.text)["word"], ("yes", "no"))
        answer = self.ask("How are you?", response_mime_type="text/x.enum", response_schema=Mood)
        self.assertIn(answer.text, ("glad", "sad"))


class Others(Case):
    def test_count_tokens(self):
        words = self.client.models.count_tokens(model=MODEL, contents=SUM).total_tokens
        seen = self.client.models.count_tokens(model=MODEL, contents=[part(PICTURE[0], "image/png"), SUM]).total_tokens
        self.assertGreater(seen, words + 20)
        whole = {"generateContentRequest": {"model": "models/" + MODEL, "contents": [{"parts": [{"text": SUM}]}]}}
        self.assertEqual(self.post("countTokens", whole), {"totalTokens": words})

    def test_embeddings(self):
        words = ["The sky is blue.", "Ice is frozen water.", "The sky is blue."]
        found = self.client.models.embed_content(model=MODEL, contents=words).embeddings
        self.assertEqual(len(found), 3)
        self.assertEqual(found[0].values, found[2].values)
        self.assertNotEqual(found[0].values, found[1].values)
        self.assertAlmostEqual(math.hypot(*found[0].values), 1, places=4)
        one = self.post("embedContent", {"content": {"parts": [{"text": words[0]}]}, "outputDimensionality": 8})
        self.assertEqual(len(one["embedding"]["values"]), 8)

    def test_models(self):
        model, = self.client.models.list()
        self.assertEqual(model.name, "models/" + MODEL)
        self.assertIn("generateContent", model.supported_actions)
        self.assertGreater(self.client.models.get(model=MODEL).input_token_limit, 1000)
        with self.assertRaises(errors.ClientError) as caught:
            self.client.models.get(model="gemini-pro")
        self.assertEqual((caught.exception.code, caught.exception.status), (404, "NOT_FOUND"))

    def test_bad_requests(self):
        text = [{"parts": [{"text": SUM}]}]
        rows = (("contents", {}), ("contents", {"contents": []}),
                ("contents[0]", {"contents": [{"role": "robot", "parts": [{"text": "x"}]}]}),
                ("contents[0].parts[1]", {"contents": [{"parts": [{"text": "x"}, {"sculpture": {}}]}]}),
                ("contents[0].parts[0]", {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png"}}]}]}),
                ("generationConfig", {"contents": text, "generationConfig": {"temperature": "hot"}}),
                ("candidateCount", {"contents": text, "generationConfig": {"candidateCount": 99}}),
                ("responseMimeType", {"contents": text, "generationConfig": {"responseMimeType": "a/b"}}),
                ("responseModalities", {"contents": text, "generationConfig": {"responseModalities": ["IMAGE"]}}),
                ("cachedContent", {"contents": text, "cachedContent": "cachedContents/1"}),
                ("tools[0].functionDeclarations[0]", {"contents": text, "tools": [{"functionDeclarations": [{}]}]}),
                ("tools[0].functionDeclarations[0].parameters", {"contents": text, "tools": [
                    {"functionDeclarations": [{"name": "x", "parameters": 5}]}]}),
                ("responseSchema", {"contents": text, "generationConfig": {"responseSchema": 5}}),
                ("functionCall.arguments", {"contents": [*text, {"role": "model", "parts": [
                    {"functionCall": {"name": "x", "args": 5}}]}]}),
                ("mode", {"contents": text, "toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}}))
        for words, body in rows:
            with self.subTest(words=words):
                error = self.post("generateContent", body, status=400)["error"]
                self.assertEqual((error["code"], error["status"]), (400, "INVALID_ARGUMENT"))
                self.assertIn(words, error["message"])
        self.assertIn("predictLongRunning", self.post("predictLongRunning", {}, status=400)["error"]["message"])

    def test_key(self):
        with Server(["--api-key", "right"]) as server:
            def ask(key):
                client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=server.url))
                return client.models.generate_content(model=MODEL, contents=SUM).text
            self.assertTrue(ask("right"))
            with self.assertRaises(errors.ClientError) as caught:
                ask("wrong")
            self.assertEqual(caught.exception.code, 401)


if __name__ == "__main__":
    unittest.main()
