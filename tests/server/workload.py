# SPDX-License-Identifier: Apache-2.0
"""Requests of every kind and dialect, and what an answer amounts to: the same request has to come to
the same whoever else is served. For test_queue.py and tools/soak.py; knows no client library."""
import base64
import http.client
import json
import os
import random
import socket
import urllib.parse

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "demo", "eval")
TIMEOUT = 300
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 120}},
          "required": ["name", "age"], "additionalProperties": False}


class Cancelled(Exception):
    """This client went away, as it was asked to."""


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"status {status}: {body[:500]!r}")
        self.status, self.headers, self.body = status, headers, body


class Broken(Exception):
    """The connection broke or the stream did not end as it should."""


def _media(kind, name):
    mime = {"image": "image/png", "audio": "audio/wav"}[kind]
    with open(os.path.join(DEMO, name), "rb") as f:
        data = base64.b64encode(f.read()).decode()
    return mime, data


def _questions():
    with open(os.path.join(DEMO, "questions.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def _openai_part(part):
    if part["type"] == "text":
        return part
    mime, data = _media(part["type"], part["path"])
    if part["type"] == "image":
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def _anthropic_part(part):
    if part["type"] == "text":
        return part
    mime, data = _media(part["type"], part["path"])
    return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}


def _gemini_part(part):
    if part["type"] == "text":
        return {"text": part["text"]}
    mime, data = _media(part["type"], part["path"])
    return {"inlineData": {"mimeType": mime, "data": data}}


def _parts(message):
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_plain(question):
    """Roles and contents that every dialect writes in much the same way."""
    return (all(m["role"] in ("user", "assistant", "system") and not m.get("tool_calls")
                for m in question["messages"])
            and all(p["type"] in ("text", "image", "audio")
                    for m in question["messages"] for p in _parts(m)))


def _messages(question, part):
    return [{"role": m["role"], "content": m["content"] if isinstance(m["content"], str)
             else [part(p) for p in m["content"]]} for m in question["messages"]]


def _chat(question, sampling):
    body = {"model": "carat", "messages": _messages(question, _openai_part), **sampling}
    if question["tools"]:
        body["tools"] = question["tools"]
    if question["thinking"]:
        body["reasoning_effort"] = "medium"
    return "/v1/chat/completions", body


def _responses(question, sampling):
    def part(p):
        p = _openai_part(p)
        if p["type"] == "image_url":
            return {"type": "input_image", "image_url": p["image_url"]["url"]}
        return {"type": "input_text", "text": p["text"]}
    tools = [{"type": "function", **t["function"]} for t in question["tools"]]
    sampling = {k: v for k, v in sampling.items() if k != "max_tokens"}
    body = {"model": "carat", "input": _messages(question, part), "store": False,
            "max_output_tokens": 300, **sampling}
    if tools:
        body["tools"] = tools
    if question["thinking"]:
        body["reasoning"] = {"effort": "medium"}
    return "/v1/responses", body


def _anthropic(question, sampling):
    sampling = {k: v for k, v in sampling.items() if k not in ("seed", "max_tokens")}
    system = "".join(m["content"] for m in question["messages"] if m["role"] == "system")
    messages = [m for m in _messages(question, _anthropic_part) if m["role"] != "system"]
    body = {"model": "carat", "max_tokens": 300, "messages": messages, **sampling}
    if system:
        body["system"] = system
    if question["tools"]:
        body["tools"] = [{"name": t["function"]["name"],
                          "description": t["function"].get("description", ""),
                          "input_schema": t["function"]["parameters"]} for t in question["tools"]]
    if question["thinking"]:
        body["max_tokens"] = 2000
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return "/v1/messages", body


def _ollama(question, sampling):
    messages = []
    for m in question["messages"]:
        images = [_media("image", p["path"])[1] for p in _parts(m) if p["type"] == "image"]
        text = "".join(p["text"] for p in _parts(m) if p["type"] == "text")
        messages.append({"role": m["role"], "content": text, **({"images": images} if images else {})})
    options = {k: v for k, v in sampling.items() if k != "max_tokens"}
    body = {"model": "carat", "messages": messages, "think": question["thinking"],
            "options": {**options, "num_predict": 300}}
    if question["tools"]:
        body["tools"] = question["tools"]
    return "/api/chat", body


def _gemini(question, sampling):
    names = {"temperature": "temperature", "seed": "seed", "top_p": "topP", "top_k": "topK"}
    config = {names[k]: v for k, v in sampling.items() if k in names}
    body = {"contents": [{"role": "model" if m["role"] == "assistant" else "user",
                          "parts": [_gemini_part(p) for p in _parts(m)]}
                         for m in question["messages"] if m["role"] != "system"],
            "generationConfig": {"maxOutputTokens": 300, **config}}
    system = "".join(m["content"] for m in question["messages"] if m["role"] == "system")
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if question["tools"]:
        body["tools"] = [{"functionDeclarations": [t["function"] for t in question["tools"]]}]
    return "/v1beta/models/carat:", body


# These are requests of conversations; "text", "embedding" and "transcription" have their own.
MAKERS = {"chat": _chat, "responses": _responses, "anthropic": _anthropic, "ollama": _ollama,
          "gemini": _gemini}


class Ask:
    """One request: its dialect, path and body. Two with the same key have to come to the same."""

    def __init__(self, dialect, path, body, streams):
        self.dialect, self.streams = dialect, streams
        self.body = dict(body)
        self.type = "application/json"
        if dialect == "gemini":
            path += "streamGenerateContent?alt=sse" if streams else "generateContent"
        elif dialect not in ("embedding", "transcription"):
            self.body["stream"] = streams
        self.path = path
        self.key = json.dumps([dialect, body], sort_keys=True)

    def data(self):
        return json.dumps(self.body).encode()

    def __repr__(self):
        return f"{self.dialect}{' stream' if self.streams else ''} {json.dumps(self.body)[:300]}"


class Form(Ask):
    """A request with a file, as those for transcriptions are."""

    def __init__(self, dialect, path, fields, name):
        super().__init__(dialect, path, {**fields, "file": name}, False)
        self.type = "multipart/form-data; boundary=carat-form"

    def data(self):
        out = b""
        for key, value in self.body.items():
            head = f'--carat-form\r\nContent-Disposition: form-data; name="{key}"'
            if key == "file":
                with open(os.path.join(DEMO, value), "rb") as f:
                    out += f'{head}; filename="{value}"\r\n\r\n'.encode() + f.read() + b"\r\n"
            else:
                out += f"{head}\r\n\r\n{value}\r\n".encode()
        return out + b"--carat-form--\r\n"


def _extra_chats():
    """Features of Chat Completions that the questions do not ask for."""
    hello = {"model": "carat", "messages": [{"role": "user", "content": "Hello! Who are you?"}],
             "max_tokens": 60}
    tool = {"type": "function", "function": {
        "name": "add", "parameters": {"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "integer"}, "b": {"type": "integer"}}}}}
    yield {**hello, "n": 3, "seed": 11, "temperature": 1.2}
    yield {**hello, "seed": 5, "temperature": 0.8, "logprobs": True, "top_logprobs": 3}
    yield {**hello, "seed": 6, "temperature": 1.5, "stop": ["am", "I "]}
    yield {**hello, "seed": 7, "temperature": 1.0, "frequency_penalty": 0.5, "presence_penalty": 0.5}
    yield {**hello, "temperature": 0, "response_format": {
        "type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}}
    yield {**hello, "seed": 8, "temperature": 1.3, "tools": [tool], "tool_choice": "required"}


def _other_asks(rng):
    for text in ("Hello", "The capital of France is", "one two three"):
        yield Ask("text", "/v1/completions", {
            "model": "carat", "prompt": [text, text + " and"], "max_tokens": 24, "temperature": 1.0,
            "seed": rng.randrange(1, 1 << 30), "logprobs": 2}, len(text) > 5)
    yield Ask("embedding", "/v1/embeddings", {"model": "carat", "input": ["a red square", "Hello"]}, False)
    sounds = sorted(name for name in os.listdir(DEMO) if name.endswith(".wav"))
    for name in sounds[:3]:
        yield Form("transcription", "/v1/audio/transcriptions", {"model": "carat", "temperature": "0"}, name)


def make_asks(seed=1, dialects=(*MAKERS, "others"), n=None):
    """A fixed, mixed list for this seed: every answer of it is determined by the request alone."""
    rng = random.Random(seed)
    questions = [q for q in _questions() if _is_plain(q)]
    asks = []
    for dialect in [d for d in dialects if d in MAKERS]:
        for q in questions:
            kinds = {p["type"] for m in q["messages"] for p in _parts(m)}
            if "audio" in kinds and dialect in ("anthropic", "ollama", "responses"):
                continue
            is_greedy = rng.random() < 0.5 or dialect == "anthropic"
            sampling = {"temperature": 0} if is_greedy else {
                "temperature": 1.0, "top_p": 0.95, "seed": rng.randrange(1, 1 << 30)}
            if dialect == "chat":
                sampling["max_tokens"] = 300
            path, body = MAKERS[dialect](q, sampling)
            asks.append(Ask(dialect, path, body, rng.random() < 0.5))
    if "chat" in dialects:
        for i, body in enumerate(_extra_chats()):
            asks.append(Ask("chat", "/v1/chat/completions", body, i % 2 == 0))
    if "others" in dialects:
        asks += _other_asks(rng)
    rng.shuffle(asks)
    return asks[:n]


# ------------------------------------------------------------------------------ sending

def fetch(url, ask, cancel=None, timeout=TIMEOUT):
    """The bytes of an answer. cancel: how many of them, after which this client goes away."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request("POST", ask.path, ask.data(), {"Content-Type": ask.type, "Connection": "close"})
        if cancel == 0:
            raise Cancelled
        answer = connection.getresponse()
        data = b""
        if cancel is not None and answer.status == 200:
            while len(data) < cancel:
                piece = answer.read1(cancel - len(data))
                if not piece:
                    break
                data += piece
            raise Cancelled
        data = answer.read()
        if answer.status != 200:
            raise Refused(answer.status, answer.headers, data)
    except (OSError, http.client.HTTPException) as error:
        raise Broken(repr(error)) from error
    finally:
        if connection.sock is not None and cancel is not None:
            # A client that is killed: its system resets what is open.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    return data


def run(url, ask, cancel=None, timeout=TIMEOUT):
    """What the answer amounts to."""
    return summarize(ask, fetch(url, ask, cancel, timeout))


def _lines(data):
    """The JSON objects of a stream of events or lines."""
    for line in data.decode("utf-8").split("\n"):
        line = line.strip()
        if line.startswith("data:"):
            line = line[5:].strip()
        elif line.startswith(("event:", ":", "id:")):
            continue
        if line and line != "[DONE]":
            yield json.loads(line)


class Answer:
    """One choice, put together."""

    def __init__(self):
        self.text = self.thought = ""
        self.calls = []
        self.logprobs = []
        self.finish = None

    def result(self):
        return {"text": self.text, "thought": self.thought, "finish": self.finish,
                "calls": self.calls, "logprobs": self.logprobs}


def _chat_answers(ask, data):
    answers = {}
    if ask.streams and b"data: [DONE]" not in data:
        raise Broken("a stream without its end")
    for chunk in _lines(data) if ask.streams else [json.loads(data)]:
        if "error" in chunk:
            raise Broken(f"an error in a stream: {chunk['error']}")
        for choice in chunk["choices"]:
            a = answers.setdefault(choice["index"], Answer())
            m = choice.get("delta") or choice.get("message") or {}
            a.text += m.get("content") or choice.get("text") or ""
            a.thought += m.get("reasoning_content") or ""
            for call in m.get("tool_calls") or []:
                f = call["function"]
                index = call.get("index", len(a.calls))
                if index == len(a.calls):
                    a.calls.append(["", ""])
                a.calls[index][0] += f.get("name") or ""
                a.calls[index][1] += f.get("arguments") or ""
            logprobs = choice.get("logprobs") or {}
            a.logprobs += [(t["token"], round(t["logprob"], 4)) for t in logprobs.get("content") or []]
            a.logprobs += [round(x, 4) for x in logprobs.get("token_logprobs") or []]
            a.finish = choice.get("finish_reason") or a.finish
    return answers


def _anthropic_answers(ask, data):
    a = Answer()
    if not ask.streams:
        message = json.loads(data)
        for block in message["content"]:
            a.text += block.get("text", "")
            a.thought += block.get("thinking", "")
            if block["type"] == "tool_use":
                a.calls.append([block["name"], json.dumps(block["input"], sort_keys=True)])
        a.finish = message["stop_reason"]
        return {0: a}
    is_over = False
    for event in _lines(data):
        if event["type"] == "error":
            raise Broken(f"an error in a stream: {event}")
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            a.calls.append([event["content_block"]["name"], ""])
        delta = event.get("delta") or {}
        a.text += delta.get("text") or ""
        a.thought += delta.get("thinking") or ""
        if delta.get("partial_json"):
            a.calls[-1][1] += delta["partial_json"]
        a.finish = delta.get("stop_reason") or a.finish
        is_over = is_over or event["type"] == "message_stop"
    if not is_over:
        raise Broken("a stream without its end")
    a.calls = [[name, json.dumps(json.loads(x or "{}"), sort_keys=True)] for name, x in a.calls]
    return {0: a}


def _ollama_answers(ask, data):
    a = Answer()
    is_over = False
    for chunk in _lines(data) if ask.streams else [json.loads(data)]:
        if "error" in chunk:
            raise Broken(f"an error in a stream: {chunk}")
        m = chunk.get("message") or {}
        a.text += m.get("content") or ""
        a.thought += m.get("thinking") or ""
        for call in m.get("tool_calls") or []:
            f = call["function"]
            a.calls.append([f["name"], json.dumps(f["arguments"], sort_keys=True)])
        a.finish = chunk.get("done_reason") or a.finish
        is_over = is_over or chunk.get("done")
    if not is_over:
        raise Broken("a stream without its end")
    return {0: a}


def _gemini_answers(ask, data):
    a = Answer()
    for chunk in _lines(data) if ask.streams else [json.loads(data)]:
        if "error" in chunk:
            raise Broken(f"an error in a stream: {chunk}")
        for candidate in chunk.get("candidates") or []:
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thought"):
                    a.thought += part.get("text") or ""
                else:
                    a.text += part.get("text") or ""
                call = part.get("functionCall")
                if call:
                    a.calls.append([call["name"], json.dumps(call.get("args"), sort_keys=True)])
            a.finish = candidate.get("finishReason") or a.finish
    if not a.finish:
        raise Broken("a stream without its end")
    return {0: a}


def _responses_answers(ask, data):
    response = None if ask.streams else json.loads(data)
    text = ""
    for event in _lines(data) if ask.streams else []:
        if event["type"] in ("error", "response.failed"):
            raise Broken(f"an error in a stream: {event}")
        if event["type"] == "response.output_text.delta":
            text += event["delta"]
        if event["type"] in ("response.completed", "response.incomplete"):
            response = event["response"]
    if response is None:
        raise Broken("a stream without its end")
    a = Answer()
    for item in response["output"]:
        if item["type"] == "message":
            a.text += "".join(c.get("text") or "" for c in item["content"])
        elif item["type"] == "function_call":
            a.calls.append([item["name"], item["arguments"]])
        elif item["type"] == "reasoning":
            a.thought += json.dumps([item.get("content"), item.get("summary")])
    a.finish = response["status"]
    if ask.streams and text != a.text:
        raise Broken(f"the pieces {text!r} are not the whole {a.text!r}")
    return {0: a}


def _vectors(ask, data):
    return {i: [round(x, 6) for x in row["embedding"]] for i, row in enumerate(json.loads(data)["data"])}


def summarize(ask, data):
    readers = {"chat": _chat_answers, "text": _chat_answers, "anthropic": _anthropic_answers,
               "ollama": _ollama_answers, "gemini": _gemini_answers, "responses": _responses_answers}
    try:
        if ask.dialect == "embedding":
            return _vectors(ask, data)
        if ask.dialect == "transcription":
            return json.loads(data)["text"]
        answers = readers[ask.dialect](ask, data)
    except (ValueError, KeyError, TypeError) as error:
        raise Broken(f"unreadable ({error!r}): {data[:2000]!r}") from error
    return [answers[i].result() for i in sorted(answers)]
