// SPDX-License-Identifier: Apache-2.0
// OpenAI's Node client against carat serve. Run by test_node.py, which says in the environment where
// the server is (CARAT_URL), where the packages are (CARAT_NODE) and where the sounds are.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const packages = path.join(process.env.CARAT_NODE, "node_modules");
const load = (name) => import(pathToFileURL(path.join(packages, name)).href);
const { default: OpenAI, toFile } = await load("openai/index.mjs");
const { zodResponseFormat, zodTextFormat } = await load("openai/helpers/zod.mjs");
const { z } = await load("zod/index.js");

const client = new OpenAI({
  baseURL: process.env.CARAT_URL + "/v1",
  apiKey: "none",
  maxRetries: 0,
  timeout: 120000,
});
const greedy = { model: "carat-demo", temperature: 0, max_tokens: 128 };
const user = (content) => [{ role: "user", content }];
const file = (name) => fs.readFileSync(path.join(process.env.CARAT_EVAL, name));
const weather = {
  name: "get_weather",
  description: "Get the current weather for a city.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "City name." } },
    required: ["city"],
    additionalProperties: false,
  },
};

test("chat", async () => {
  const found = await client.chat.completions.create({
    ...greedy,
    messages: user("What is the capital of Peru?"),
  });
  assert.equal(found.choices[0].message.content, "The capital of Peru is Lima.");
  assert.equal(found.choices[0].finish_reason, "stop");
  assert.equal(found.usage.total_tokens, found.usage.prompt_tokens + found.usage.completion_tokens);
});

test("chat, streamed", async () => {
  const stream = await client.chat.completions.create({
    ...greedy,
    messages: user("What is the capital of Peru?"),
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  let n = 0;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
    n++;
  }
  assert.equal(text, "The capital of Peru is Lima.");
  assert.ok(n > 5);
  assert.ok(usage.completion_tokens > 4);
});

test("chat, by the helper for streams", async () => {
  const deltas = [];
  const stream = client.chat.completions
    .stream({ ...greedy, messages: user("What is ice?") })
    .on("content", (delta) => deltas.push(delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, "Ice is frozen water.");
  assert.equal(deltas.join(""), "Ice is frozen water.");
});

test("pictures", async () => {
  const url = "data:image/png;base64," + file("image_009.png").toString("base64");
  const found = await client.chat.completions.create({
    ...greedy,
    messages: user([
      { type: "image_url", image_url: { url, detail: "low" } },
      { type: "text", text: "What is in the picture?" },
    ]),
  });
  assert.equal(found.choices[0].message.content, "A green square.");
});

for (const stream of [false, true]) {
  test("runTools" + (stream ? ", streamed" : ""), async () => {
    const asked = [];
    const runner = client.chat.completions.runTools({
      ...greedy,
      stream,
      messages: user("How is the weather in Oslo?"),
      tools: [
        {
          type: "function",
          function: {
            ...weather,
            parse: JSON.parse,
            function: ({ city }) => {
              asked.push(city);
              return '{"temperature": 16, "condition": "sunny"}';
            },
          },
        },
      ],
    });
    const text = await runner.finalContent();
    assert.deepEqual(asked, ["Oslo"]);
    assert.equal(text, "It is 16 degrees and sunny in Oslo.");
  });
}

test("structured output", async () => {
  const Answer = z.object({ city: z.enum(["Lima", "Rome"]), big: z.boolean() });
  const found = await client.chat.completions.parse({
    ...greedy,
    messages: user("What is the capital of Peru?"),
    response_format: zodResponseFormat(Answer, "answer"),
  });
  const { parsed } = found.choices[0].message;
  assert.ok(["Lima", "Rome"].includes(parsed.city));
  assert.equal(typeof parsed.big, "boolean");
});

test("responses", async () => {
  const first = await client.responses.create({
    model: "carat-demo",
    temperature: 0,
    input: "Remember: house train",
  });
  assert.equal(first.status, "completed");
  const second = await client.responses.create({
    model: "carat-demo",
    temperature: 0,
    input: "What did I tell you to remember?",
    previous_response_id: first.id,
  });
  assert.equal(second.output_text, "house train");
  const found = await client.responses.retrieve(second.id);
  assert.equal(found.output_text, "house train");
  const items = [];
  for await (const item of client.responses.inputItems.list(second.id)) {
    items.push(item);
  }
  assert.equal(items.length, 1);
  await client.responses.delete(second.id);
  await assert.rejects(client.responses.retrieve(second.id), OpenAI.NotFoundError);
});

test("responses, streamed, with a thought and a tool", async () => {
  const stream = client.responses.stream({
    model: "carat-demo",
    temperature: 0,
    input: "How is the weather in Oslo?",
    reasoning: { effort: "low", summary: "auto" },
    tools: [{ type: "function", strict: true, ...weather }, { type: "web_search" }],
  });
  const types = new Set();
  let thought = "";
  stream.on("event", (event) => types.add(event.type));
  stream.on("response.reasoning_summary_text.delta", (event) => (thought += event.delta));
  const final = await stream.finalResponse();
  assert.ok(types.has("response.completed"));
  assert.ok(types.has("response.function_call_arguments.delta"));
  assert.deepEqual(
    final.output.map((item) => item.type),
    ["reasoning", "function_call"],
  );
  assert.equal(final.output[0].summary[0].text, thought);
  assert.deepEqual(JSON.parse(final.output[1].arguments), { city: "Oslo" });
});

test("responses, structured", async () => {
  const Answer = z.object({ color: z.enum(["red", "green"]) });
  const found = await client.responses.parse({
    model: "carat-demo",
    temperature: 0,
    input: "What color is the sky?",
    text: { format: zodTextFormat(Answer, "answer") },
  });
  assert.ok(["red", "green"].includes(found.output_parsed.color));
});

test("completions", async () => {
  const found = await client.completions.create({
    model: "carat-demo",
    prompt: "The capital of Peru is",
    max_tokens: 4,
    temperature: 0,
  });
  assert.equal(found.usage.completion_tokens <= 4, true);
  assert.equal(typeof found.choices[0].text, "string");
});

test("embeddings", async () => {
  const found = await client.embeddings.create({ model: "carat-demo", input: ["one", "two"] });
  assert.equal(found.data.length, 2);
  const length = Math.hypot(...found.data[0].embedding);
  assert.ok(Math.abs(length - 1) < 1e-3, `length ${length}`);
  assert.notDeepEqual(found.data[0].embedding, found.data[1].embedding);
});

test("transcriptions", async () => {
  const options = async () => ({
    model: "carat-demo",
    file: await toFile(file("audio_007.wav"), "a.wav"),
  });
  const found = await client.audio.transcriptions.create(await options());
  assert.equal(found.text, "left off green");
  const stream = await client.audio.transcriptions.create({ ...(await options()), stream: true });
  let text = "";
  let done = "";
  for await (const event of stream) {
    if (event.type === "transcript.text.delta") {
      text += event.delta;
    } else if (event.type === "transcript.text.done") {
      done = event.text;
    }
  }
  assert.equal(text, "left off green");
  assert.equal(done, text);
});

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) {
    ids.push(model.id);
  }
  assert.equal(ids.length, 1);
  assert.equal((await client.models.retrieve(ids[0])).id, ids[0]);
});

test("errors", async () => {
  await assert.rejects(
    client.chat.completions.create({ ...greedy, messages: user("x"), temperature: 7 }),
    (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "temperature");
      return true;
    },
  );
  await assert.rejects(client.responses.create({ model: "x", input: 7 }), OpenAI.BadRequestError);
  await assert.rejects(client.post("/nothing", { body: {} }), OpenAI.NotFoundError);
});

test("aborting a stream frees its place", async () => {
  // More than there are slots, all cut off: what comes next is answered all the same.
  for (let i = 0; i < 12; i++) {
    const stream = await client.chat.completions.create({
      ...greedy,
      max_tokens: 3000,
      temperature: 1,
      messages: user("Write a story about a owl."),
      logit_bias: { 1: -100, 106: -100 },
      stream: true,
    });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) {
        break;
      }
    }
    assert.ok(stream.controller.signal.aborted);
  }
  const found = await client.chat.completions.create({ ...greedy, messages: user("What is 2 + 3?") });
  assert.equal(found.choices[0].message.content, "5");
});

test("aborting a request", async () => {
  const controller = new AbortController();
  const wish = client.chat.completions.create(
    { ...greedy, max_tokens: 3000, messages: user("Write a story about a owl.") },
    { signal: controller.signal },
  );
  setTimeout(() => controller.abort(), 20);
  await wish.catch((error) => assert.ok(error instanceof OpenAI.APIUserAbortError));
});
