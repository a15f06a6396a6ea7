# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Python client against carat serve: transcriptions and translations; and forms that are
not well made."""
import io
import json
import os
import re
import struct
import unittest
import wave

import openai

from harness import Server

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EVAL = os.path.join(ROOT, "demo", "eval")


def setUpModule():
    global server, client
    # The demonstration model was trained with other words than Gemma.
    server = Server(args=["--transcription-prompt", "Transcribe the audio."])
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def tearDownModule():
    client.close()
    server.stop()


def sound(i):
    with open(os.path.join(EVAL, "audio_%03d.wav" % i), "rb") as f:
        return f.read()


def samples(i):
    with wave.open(io.BytesIO(sound(i))) as w:
        assert (w.getnchannels(), w.getsampwidth()) == (1, 2)
        return w.getframerate(), w.readframes(w.getnframes())


def hear(file, **options):
    options = {"model": "carat-demo", **options}
    return client.audio.transcriptions.create(file=("a.wav", file), **options)


# The sounds of these numbers, two seconds after one another's begin, in a sound so long.
def long_sound(at, seconds):
    rate = samples(0)[0]
    data = bytearray(2 * rate * seconds)
    for second, i in at:
        _, piece = samples(i)
        data[2 * rate * second:2 * rate * second + len(piece)] = piece
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(bytes(data))
    return out.getvalue()


class Hear(unittest.TestCase):
    def test_json(self):
        found = hear(sound(1))
        self.assertEqual(found.text, "two")
        self.assertEqual(found.usage.type, "tokens")
        self.assertGreater(found.usage.input_token_details.audio_tokens, 5)
        self.assertEqual(found.usage.input_tokens, found.usage.input_token_details.audio_tokens +
                         found.usage.input_token_details.text_tokens)
        self.assertEqual(found.usage.total_tokens,
                         found.usage.input_tokens + found.usage.output_tokens)
        self.assertIsNone(found.logprobs)
        self.assertEqual(hear(sound(7), response_format="json").text, "left off green")

    def test_text(self):
        self.assertEqual(hear(sound(7), response_format="text"), "left off green\n")

    def test_verbose(self):
        found = hear(sound(7), response_format="verbose_json", language="en")
        rate, data = samples(7)
        self.assertEqual(found.text, "left off green")
        self.assertEqual(found.language, "English")
        self.assertAlmostEqual(float(found.duration), len(data) / 2 / rate, places=2)
        self.assertEqual(len(found.segments), 1)
        segment = found.segments[0]
        self.assertEqual((segment.id, segment.start, segment.text), (0, 0, "left off green"))
        self.assertAlmostEqual(segment.end, found.duration, places=2)
        self.assertLess(segment.avg_logprob, 0)
        self.assertGreaterEqual(len(segment.tokens), 3)

    def test_subtitles(self):
        srt = hear(sound(7), response_format="srt")
        self.assertRegex(srt, r"\A1\n00:00:00,000 --> 00:00:0\d,\d\d\d\nleft off green\n\n\Z")
        vtt = hear(sound(7), response_format="vtt")
        self.assertRegex(vtt, r"\AWEBVTT\n\n00:00:00\.000 --> 00:00:0\d\.\d\d\d\nleft off green\n\n\Z")

    def test_types_of_answers(self):
        for format, expected in (("json", "application/json"), ("text", "text/plain"),
                                 ("srt", "text/plain"), ("vtt", "text/vtt"),
                                 ("verbose_json", "application/json")):
            raw = client.audio.transcriptions.with_raw_response.create(
                file=("a.wav", sound(1)), model="x", response_format=format)
            self.assertEqual(raw.headers["content-type"].split(";")[0], expected)

    def test_stream(self):
        events = list(hear(sound(7), stream=True))
        self.assertEqual({e.type for e in events[:-1]}, {"transcript.text.delta"})
        self.assertGreater(len(events), 2)
        self.assertEqual(events[-1].type, "transcript.text.done")
        self.assertEqual("".join(e.delta for e in events[:-1]), "left off green")
        self.assertEqual(events[-1].text, "left off green")
        self.assertGreater(events[-1].usage.output_tokens, 2)

    def test_logprobs(self):
        found = hear(sound(7), include=["logprobs"])
        self.assertEqual("".join(r.token for r in found.logprobs), "left off green")
        self.assertTrue(all(r.logprob <= 0 for r in found.logprobs))
        self.assertEqual(bytes(int(b) for r in found.logprobs for b in r.bytes), b"left off green")
        events = list(hear(sound(7), include=["logprobs"], stream=True))
        self.assertEqual([r.token for e in events[:-1] for r in e.logprobs],
                         [r.token for r in found.logprobs])
        self.assertEqual(len(events[-1].logprobs), len(found.logprobs))

    def test_temperature_and_seed(self):
        options = {"temperature": 1, "extra_body": {"seed": 3}}
        self.assertEqual(hear(sound(1), **options).text, hear(sound(1), **options).text)

    def test_hints_are_read(self):
        plain = hear(sound(1)).usage.input_tokens
        self.assertGreater(hear(sound(1), prompt="Zaphod Beeblebrox").usage.input_tokens, plain + 3)
        self.assertEqual(hear(sound(1), prompt="").usage.input_tokens, plain)

    def test_segments_are_the_pieces_that_it_was_cut_into(self):
        long = long_sound([(1, 7), (26, 1), (34, 3), (62, 1)], 64)
        found = hear(long, response_format="verbose_json")
        self.assertGreaterEqual(len(found.segments), 3)
        self.assertEqual(found.segments[0].start, 0)
        self.assertAlmostEqual(found.segments[-1].end, 64, places=2)
        for before, after in zip(found.segments, found.segments[1:]):
            self.assertEqual(before.end, after.start)
            self.assertLessEqual(before.end - before.start, 30)
            self.assertGreaterEqual(before.end - before.start, 25)
        self.assertEqual(found.text, " ".join(s.text for s in found.segments if s.text))
        events = list(hear(long, stream=True))
        self.assertEqual("".join(e.delta for e in events[:-1]), found.text)
        self.assertEqual(events[-1].text, found.text)
        subtitles = hear(long, response_format="srt")
        self.assertEqual(len(re.findall("-->", subtitles)), sum(bool(s.text) for s in found.segments))

    def test_translations(self):
        found = client.audio.translations.create(file=("a.wav", sound(1)), model="x")
        self.assertIsInstance(found.text, str)
        verbose = client.audio.translations.create(file=("a.wav", sound(1)), model="x",
                                                   response_format="verbose_json")
        self.assertEqual(verbose.to_dict()["task"], "translate")
        self.assertEqual(verbose.text, found.text)

    def test_segments_of_time(self):
        found = hear(sound(1), response_format="verbose_json",
                     timestamp_granularities=["word", "segment"])
        self.assertEqual(len(found.segments), 1)
        self.assertIsNone(found.words)


class Own(unittest.TestCase):
    """The question that is asked when the server is not told another."""

    def test_gemma_s_question(self):
        with Server() as other:
            c = openai.OpenAI(base_url=other.url + "/v1", api_key="none", max_retries=0)
            counts = [c.audio.transcriptions.create(file=("a.wav", sound(1)), model="x",
                                                    **more).usage.input_tokens
                      for more in ({}, {"language": "de"}, {"language": "a" * 60})]
            c.close()
        self.assertGreater(min(counts), hear(sound(1)).usage.input_tokens + 50)
        self.assertEqual(len(set(counts)), 3)


BOUNDARY = "XyZ"


def form(*fields, end="--XyZ--\r\n"):
    out = b""
    for name, data in fields:
        data = data if isinstance(data, bytes) else data.encode()
        more = '; filename="a.wav"\r\nContent-Type: audio/wav' if name == "file" else ""
        out += ('--XyZ\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n' % (name, more)).encode()
        out += data + b"\r\n"
    return out + end.encode()


class Refused(unittest.TestCase):
    def send(self, body, content_type="multipart/form-data; boundary=XyZ"):
        status, _, data = server.request("/v1/audio/transcriptions", body,
                                         headers={"Content-Type": content_type})
        return status, data

    def refused(self, words, body, **options):
        status, data = self.send(body, **options)
        self.assertEqual(status, 400, data)
        error = json.loads(data)["error"]
        self.assertIn(words, error["message"])
        self.assertEqual(error["type"], "invalid_request_error")

    def test_forms_by_hand(self):
        status, data = self.send(form(("model", "x"), ("file", sound(1))))
        self.assertEqual((status, json.loads(data)["text"]), (200, "two"))
        body = b"preamble\r\n" + form(("file", sound(1)), end="--XyZ--epilogue")
        self.assertEqual(self.send(body)[0], 200)
        self.assertEqual(self.send(form(("file", sound(1))),
                                   content_type='Multipart/Form-Data; boundary="XyZ"')[0], 200)

    def test_forms_that_are_not_well_made(self):
        whole = form(("file", sound(1)))
        self.refused("form", b"{}", content_type="application/json")
        self.refused("boundary", whole, content_type="multipart/form-data")
        self.refused("boundary", whole, content_type="multipart/form-data; boundary=" + "b" * 71)
        self.refused("boundary", b"no form at all")
        self.refused("cut off", whole[:-9])
        self.refused("cut off", whole[:500])
        self.refused("name", b"--XyZ\r\nContent-Type: a/b\r\n\r\nx\r\n--XyZ--")
        self.refused("headers", b"--XyZ\r\n" + b"A: b\r\n" * 40 + b"\r\nx\r\n--XyZ--")
        self.refused("parts", form(*[("a", "b")] * 300))
        self.refused("file", form(("model", "x")))
        self.refused("file", form(("file", b"")))

    def test_fields_that_are_wrong(self):
        file = ("file", sound(1))
        self.refused("response_format", form(file, ("response_format", "xml")))
        self.refused("speakers", form(file, ("response_format", "diarized_json")))
        self.refused("temperature", form(file, ("temperature", "hot")))
        self.refused("temperature", form(file, ("temperature", "-1")))
        self.refused("temperature", form(file, ("temperature", "")))
        self.refused("temperature", form(file, ("temperature", "1" * 100)))
        self.refused("stream", form(file, ("stream", "maybe")))
        self.refused("stream", form(file, ("stream", "true"), ("response_format", "srt")))
        self.refused("prompt", form(file, ("prompt", "x" * 5000)))
        self.refused("language", form(file, ("language", b"\xff\xfe")))
        self.refused("word", form(file, ("timestamp_granularities[]", "word")))

    def test_sounds_that_are_none(self):
        for data in (b"RIFF", b"\0" * 1000, sound(1)[:40], b"<html>" * 100,
                     sound(1)[:22] + struct.pack("<HI", 0, 0) + sound(1)[28:]):
            with self.assertRaises(openai.BadRequestError):
                hear(data)

    def test_other_methods_and_the_server_lives(self):
        self.assertEqual(server.request("/v1/audio/transcriptions")[0], 405)
        self.assertEqual(hear(sound(1)).text, "two")


if __name__ == "__main__":
    unittest.main()
