# SPDX-License-Identifier: Apache-2.0
"""Pictures, sound and film in the commands, on the demonstration model."""
import base64
import json
import math
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import time
import unittest

from common import CARAT, DATA, DEMO, CommandTest, Terminal, carat

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EVAL = os.path.join(ROOT, "demo", "eval")
HEARD = os.path.join(EVAL, "audio_016.wav")
SEEN = os.path.join(EVAL, "image_000.png")
GREEDY = ["--temperature", "0"]
HAS_FFMPEG = "FFmpeg" not in carat("run", "--image", SEEN, *GREEDY).err
# Long enough to see a difference in the inputs, short enough to be quick.
FIGURES = ["--json", "--logprobs", "5", "--max-tokens", "4", *GREEDY]


def ppm(width, height, shift=0):
    rows = bytes((x * 3 + y * 5 + shift * 40 + c * 70) % 256 for y in range(height) for x in range(width) for c in range(3))
    return b"P6\n%d %d\n255\n" % (width, height) + rows


def wav(seconds, rate=16000, size=None):
    n = int(seconds * rate)
    data = b"".join(struct.pack("<h", int(9000 * math.sin(i * (0.05 + i / n * 0.1)))) for i in range(n))
    size = len(data) if size is None else size
    head = b"RIFF" + struct.pack("<I", (36 + size) & 0xffffffff) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    return head + b"data" + struct.pack("<I", size) + data


def logprobs(result):
    """What the model computed, without what may differ from run to run."""
    found = json.loads(result.out)
    return found["usage"]["prompt_tokens"], found["logprobs"]


def n_prompt(result):
    return json.loads(result.out)["usage"]["prompt_tokens"]


class Media(CommandTest):
    def setUp(self):
        super().setUp()
        self.picture = self.path("picture.ppm", ppm(640, 480))
        self.other = self.path("other.ppm", ppm(200, 100, 1))
        self.sound = self.path("sound.wav", wav(1.5))

    def figures(self, *words, stdin=None, model=DEMO):
        result = carat("run", model, *words, *FIGURES, stdin=stdin)
        self.assertEqual(result.code, 0, result.err)
        return logprobs(result)

    def talk(self, *parts, name="talk.json"):
        return self.path(name, json.dumps([{"role": "user", "content": list(parts)}]))


class Run(Media):
    def test_the_demo_model_hears(self):
        result = carat("run", "--audio", HEARD, "Transcribe the audio.", *GREEDY)
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertGreater(len(result.out.split()), 1)

    def test_parts_stand_in_the_order_of_the_command_line(self):
        text = {"type": "text", "text": "Look:"}
        picture, other = {"type": "image", "path": "picture.ppm"}, {"type": "image", "path": "other.ppm"}
        sound = {"type": "audio", "path": "sound.wav"}
        a, b, s = ["--image", self.picture], ["--image", self.other], ["--audio", self.sound]
        cases = [([*a, "Look:"], [picture, text]), (["Look:", *a], [text, picture]),
                 ([*a, *s, "Look:", *b], [picture, sound, text, other]), ([*b, "Look:", *s, *a], [other, text, sound, picture])]
        seen = []
        for words, parts in cases:
            with self.subTest(words=words):
                found = self.figures(*words)
                self.assertEqual(found, self.figures("--messages", self.talk(*parts)))
                self.assertNotIn(found, seen)
                seen.append(found)
        self.assertEqual(self.figures(*a, stdin="Look:"), seen[0])  # piped text goes last

    def test_a_sound_alone_is_a_message(self):
        self.assertEqual(self.figures("--audio", self.sound), self.figures("--messages", self.talk({"type": "audio", "path": "sound.wav"})))

    def test_options_concern_the_files_after_them(self):
        def n(*words):
            return self.figures(*words, "Look:")[0]
        none = n()
        small = n("--image-tokens", "70", "--image", self.picture) - none
        large = n("--image-tokens", "280", "--image", self.picture) - none
        automatic = n("--image", self.picture) - none  # 140 is the first that has room for its pixels
        self.assertEqual((small, large, automatic), (63 + 2, 266 + 2, 130 + 2))
        self.assertEqual(n("--image-tokens", "70", "--image", self.picture, "--image-tokens", "280", "--image", self.picture) - none, small + large)
        self.assertEqual(n("--image-tokens", "70", "--image-tokens", "auto", "--image", self.picture) - none, automatic)
        talk = self.talk({"type": "image", "path": "picture.ppm"}, {"type": "text", "text": "Look:"})
        self.assertEqual(self.figures("--image-tokens", "70", "--messages", talk)[0] - none, small)

    def test_sound_first(self):
        first = self.figures("--audio", self.sound, "--image", self.picture, "Look:")
        self.assertEqual(self.figures("--image", self.picture, "Look:", "--audio", self.sound, "--sound-first"), first)
        self.assertNotEqual(self.figures("--image", self.picture, "Look:", "--audio", self.sound), first)

    def test_sound_sees_ahead_on_request(self):
        plain = self.figures("--audio", self.sound, "Hm?")
        open_ = self.figures("--audio", self.sound, "Hm?", "--sound-sees-ahead")
        self.assertEqual(plain[0], open_[0])
        self.assertNotEqual(plain[1], open_[1])
        self.assertEqual(self.figures("Hm?"), self.figures("Hm?", "--sound-sees-ahead"))

    def test_long_sound_is_heard_in_parts_and_said(self):
        long = self.path("long.wav", wav(31))
        result = carat("run", "--audio", long, *FIGURES)
        self.assertEqual(result.code, 0)
        self.assertEqual(len(result.err.splitlines()), 1, result.err)
        self.assertIn("long.wav", result.err)
        whole = carat("run", "--audio", long, "--segment", "off", *FIGURES)
        self.assertGreater(n_prompt(result), n_prompt(carat("run", "--segment", "off", "--audio", long, *FIGURES)))
        self.assertEqual(whole.code, 2)  # behind the file it would do nothing

    def test_from_standard_input(self):
        with open(self.picture, "rb") as f:
            done = subprocess.run([CARAT, "run", "--image", "-", "Look:", *FIGURES], stdin=f, capture_output=True, check=True)
        found = json.loads(done.stdout)
        self.assertEqual((found["usage"]["prompt_tokens"], found["logprobs"]), self.figures("--image", self.picture, "Look:"))

    def test_data_and_file_urls(self):
        with open(self.sound, "rb") as f:
            data = base64.b64encode(f.read()).decode()
        expected = self.figures("--audio", self.sound, "Hm?")
        text = {"type": "text", "text": "Hm?"}
        spaced = self.path("a sound.wav")
        shutil.copyfile(self.sound, spaced)
        for part in ({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
                     {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64," + data}},
                     {"type": "audio", "url": "file://" + spaced.replace(" ", "%20")},
                     {"type": "audio", "path": spaced}):
            with self.subTest(part=str(part)[:60]):
                self.assertEqual(self.figures("--messages", self.talk(part, text)), expected)
        self.assertEqual(self.figures("--messages", self.talk({"type": "image_url", "image_url": {"url": self.picture}}, text)),
                         self.figures("--image", self.picture, "Hm?"))

    def test_verbose_says_what_was_attached(self):
        result = carat("run", "--image", self.picture, "--audio", self.sound, "Hm?", "--verbose", *GREEDY)
        self.assertRegex(result.err, r"picture\.ppm: ppm, 640 x 480 pixels, seen as 624 x 480, 130 tokens")
        self.assertRegex(result.err, r"sound\.wav: wav, 1\.5 s, 38 tokens")
        self.assertRegex(result.err, r"it sees and hears, by .*mmproj-carat-demo\.gguf")

    def test_model_without_projections(self):
        alone = self.path("alone/model.gguf")
        os.mkdir(os.path.dirname(alone))
        shutil.copyfile(DEMO, alone)
        for option, file, word in (("--image", self.picture, "does not see"), ("--audio", self.sound, "does not hear")):
            self.assert_fails(carat("run", alone, option, file, "Hm?"), 1, file, word, "--projector")
        projector = os.path.join(os.path.dirname(DEMO), "mmproj-carat-demo.gguf")
        self.assertEqual(self.figures("--projector", projector, "--image", self.picture, "Hm?", model=alone),
                         self.figures("--image", self.picture, "Hm?"))

    @unittest.skipUnless(HAS_FFMPEG, "a build without FFmpeg")
    def test_pictures_and_films(self):
        result = carat("run", "--image", SEEN, "Describe the picture.", *GREEDY)
        self.assertEqual((result.code, result.err, result.out), (0, "", "A blue square.\n"))
        film = os.path.join(EVAL, "video_001.mp4")
        many, few, one = (self.figures(*words, "--video", film, "Hm?")[0] for words in ([], ["--video-frames", "4"], ["--video-fps", "0.01"]))
        self.assertTrue(many > few > one, (many, few, one))
        self.assertEqual(self.figures("--video-frames", "4", "--video", film, "Hm?"),
                         self.figures("--messages", self.talk({"type": "video", "path": film, "frames": 4}, {"type": "text", "text": "Hm?"})))

    @unittest.skipUnless(HAS_FFMPEG, "a build without FFmpeg")
    def test_film_with_and_without_sound(self):
        film = os.path.join(DATA, "io", "video", "shapes.webm")
        words = ["--video-frames", "2", "--video", film, "Hm?"]
        self.assertGreater(self.figures(*words)[0], self.figures("--no-sound", *words)[0] + 70)  # three seconds
        heard = self.figures("--audio", film, "Hm?")[0]
        self.assertTrue(75 <= heard - self.figures("Hm?")[0] <= 79, heard)


class Wrong(Media):
    def test_command_lines(self):
        for words, expected in ((["--image-tokens", "71", "--image", "x"], "--image-tokens: expected auto, 70"),
                                (["--video-frames", "0", "--video", "x"], "--video-frames: expected"),
                                (["--video-fps", "0", "--video", "x"], "--video-fps: expected"),
                                (["--segment", "soon", "--audio", "x"], "--segment: expected off or seconds"),
                                (["--image", self.picture, "--image-tokens", "70"], "put it before them"),
                                (["--image", "-", "--audio", "-"], "standard input is one file"),
                                (["--audio", "-", "--messages", "-"], "standard input is a medium already"),
                                (["--audio", self.sound, "--no-template"], "--no-template"),
                                (["--image"], "--image needs a value"), (["--no-sound=1"], "takes no value")):
            with self.subTest(words=words):
                self.assert_fails(carat("run", "Hm?", *words), 2, expected)
        self.assert_fails(carat("run", "-", "--image", "-"), 2, "give the prompt as an argument")
        self.assert_fails(carat("chat", "--image-tokens", "3"), 2, "--image-tokens: expected")
        self.assert_fails(carat("bench", "--image", "x"), 2, "--media")

    def test_files(self):
        text, empty = self.path("text.png", "This is no picture.\n"), self.path("empty.wav", b"")
        cut = self.path("cut.ppm", ppm(64, 64)[:2000])
        for option, file, word in (("--image", self.path("nothing.png"), "no such file"), ("--image", text, "known format"),
                                   ("--audio", text, "known format"), ("--video", text, "known format"),
                                   ("--image", self.sound, "sound.wav"), ("--image", cut, "cut.ppm"),
                                   ("--audio", self.picture, "picture.ppm"), ("--image", self.folder, "directory")):
            with self.subTest(option=option, file=file):
                self.assert_fails(carat("run", "Hm?", option, file), 1, os.path.basename(file), word)
        self.assertEqual(carat("run", "Hm?", "--audio", empty).code, 1)

    @unittest.skipUnless(HAS_FFMPEG, "a build without FFmpeg")
    def test_compressed_files(self):
        with open(SEEN, "rb") as f:
            picture = f.read()
        for option, file in (("--audio", SEEN), ("--image", self.path("cut.png", picture[:len(picture) // 2]))):
            with self.subTest(file=file):
                self.assert_fails(carat("run", "Hm?", option, file), 1, os.path.basename(file))

    def test_json(self):
        def wrong(*parts):
            return carat("run", "--messages", self.talk(*parts))
        for part, words in (({"type": "image"}, ["message 0", "image", "expected its file"]),
                            ({"type": "image", "path": "nothing.png"}, ["message 0", "nothing.png", "no such file"]),
                            ({"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}, ["https://a.b/c.png", "does not fetch"]),
                            ({"type": "image", "url": "data:image/png;base64,iVB!"}, ["base64"]),
                            ({"type": "image", "url": "data:image/png,abc"}, ["base64"]),
                            ({"type": "input_audio", "input_audio": {}}, ["expected its file"]),
                            ({"type": "audio", "path": 3}, ["expected its file"]),
                            ({"type": "image", "path": "picture.ppm", "tokens": "many"}, ["tokens"]),
                            ({"type": "image", "path": "picture.ppm", "tokens": 71}, ["70"]),
                            ({"type": "video", "path": "picture.ppm", "frames": 0}, ["frames"]),
                            ({"type": "video", "path": "picture.ppm", "fps": -1}, ["fps"])):
            with self.subTest(part=part):
                self.assert_fails(wrong(part), 1, *words)


class Listening(Media):
    def listen(self, data, *words, pause=0.0, piece=3200):
        """Feeds a sound slowly and gives the JSON that comes back."""
        process = subprocess.Popen([CARAT, "run", "--audio", "-", *words, *FIGURES], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for at in range(0, len(data), piece):
            process.stdin.write(data[at:at + piece])
            process.stdin.flush()
            time.sleep(pause)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        return json.loads(out)

    def test_a_slow_recording_is_read_as_it_comes(self):
        data = wav(2)
        file = self.path("two.wav", data)
        expected = self.figures("--audio", file, "Hm?")
        found = self.listen(data, "Hm?", pause=0.05)
        self.assertEqual((found["usage"]["prompt_tokens"], found["logprobs"]), expected)
        self.assertGreaterEqual(found["listening"]["tokens_before_end"], 25)
        self.assertLess(found["listening"]["end_to_answer_s"], 5)
        self.assertAlmostEqual(found["listening"]["seconds"], 2, 2)
        self.assertGreaterEqual(found["usage"]["reused_tokens"], 25)

    def test_all_at_once_and_without_a_length(self):
        for size in (None, 0, 0xffffffff - 36, 0x7ffff000):
            with self.subTest(size=size):
                data = wav(1.5, size=size)
                found = self.listen(data, "Hm?", piece=len(data))
                self.assertEqual((found["usage"]["prompt_tokens"], found["logprobs"]), self.figures("--audio", self.sound, "Hm?"))

    def test_parts_around_it(self):
        found = self.listen(wav(1.5), "--image", self.picture, "Hm?", pause=0.02)
        self.assertEqual((found["usage"]["prompt_tokens"], found["logprobs"]),
                         self.figures("--audio", self.sound, "--image", self.picture, "Hm?"))

    def test_interrupt_ends_the_recording_not_the_program(self):
        process = subprocess.Popen([CARAT, "run", "--audio", "-", "Hm?", *FIGURES], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(wav(1.5, size=0))
        process.stdin.flush()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()
        process.stdin.close()
        self.assertEqual(process.wait(30), 0, process.stderr.read())
        process.stdout.close()
        process.stderr.close()
        self.assertAlmostEqual(json.loads(out)["listening"]["seconds"], 1.5, 2)

    def test_what_is_no_wav_is_read_to_its_end(self):
        result = carat("run", "--audio", "-", "Hm?", stdin="no sound at all")
        self.assert_fails(result, 1, "standard input")

    def test_a_broken_header_is_an_error(self):
        done = subprocess.run([CARAT, "run", "--audio", "-", "Hm?"], input=b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff" + bytes(100), capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"standard input", done.stderr)

    @unittest.skipUnless(HAS_FFMPEG, "a build without FFmpeg")
    def test_a_compressed_sound_by_pipe(self):
        with open(os.path.join(DATA, "io", "audio", "speech-16k.mp3"), "rb") as f:
            found = subprocess.run([CARAT, "run", "--audio", "-", "Hm?", *FIGURES], stdin=f, capture_output=True, check=True)
        self.assertNotIn("listening", json.loads(found.stdout))


class Chat(Media):
    def test_slash_commands_attach(self):
        # Answers within the sliding window: what is behind it cannot be reused.
        result = carat("chat", *GREEDY, "--max-tokens", "8", "--json",
                       stdin=f"/image {self.picture}\n/audio {self.sound}\nHi!\nAnd now?\n/undo\n/undo\nHm?\n")
        self.assertEqual(result.code, 0, result.err)
        first, second, third = (json.loads(line)["usage"] for line in result.out.splitlines())
        self.assertEqual(first["prompt_tokens"], self.figures("--image", self.picture, "Hi!", "--audio", self.sound)[0])
        self.assertGreater(second["reused_tokens"], first["prompt_tokens"] - 10)  # but what the answer's turn begins with
        self.assertEqual(third["prompt_tokens"], self.figures("Hm?")[0])  # undone: the media are gone
        self.assertRegex(result.err, r"picture\.ppm: 640 x 480 pixels, seen as 624 x 480, 130 tokens; goes with")

    def test_media_on_the_command_line_and_an_empty_line(self):
        result = carat("chat", *GREEDY, "--json", "--audio", self.sound, stdin="\n\n")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual([json.loads(line)["usage"]["prompt_tokens"] for line in result.out.splitlines()],
                         [self.figures("--audio", self.sound)[0]])

    def test_saved_and_continued(self):
        saved = self.path("saved/talk.json")
        os.mkdir(os.path.dirname(saved))
        where = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, where)
        first = carat("chat", *GREEDY, "--json", "--image-tokens", "70", stdin=f"/image picture.ppm\nHm?\n/save {saved}\n")
        self.assertEqual(first.code, 0, first.err)
        with open(saved, encoding="utf-8") as f:
            part = json.load(f)[0]["content"][0]
        self.assertEqual(part, {"type": "image", "path": os.path.realpath(self.picture), "tokens": 70})
        more = carat("chat", *GREEDY, "--json", "--messages", saved, stdin="And now?\n")
        whole = carat("chat", *GREEDY, "--json", "--image-tokens", "70", stdin="/image picture.ppm\nHm?\nAnd now?\n")
        self.assertEqual(json.loads(more.out)["content"], json.loads(whole.out.splitlines()[1])["content"])
        self.assertEqual(json.loads(more.out)["usage"]["prompt_tokens"], json.loads(whole.out.splitlines()[1])["usage"]["prompt_tokens"])

    def test_clear_forgets_what_was_attached(self):
        result = carat("chat", *GREEDY, "--json", stdin=f"/image {self.picture}\n/clear\nHm?\n")
        self.assertEqual(json.loads(result.out)["usage"]["prompt_tokens"], self.figures("Hm?")[0])

    def test_wrong_files_are_said_and_counted(self):
        for line, word in ((f"/image {self.path('nothing.png')}", "no such file"), ("/image", "missing"), (f"/audio {self.picture}", "picture.ppm"), ("/audio -", "standard input")):
            with self.subTest(line=line):
                result = carat("chat", *GREEDY, stdin=line + "\nHello\n")
                self.assertEqual(result.code, 1)
                self.assertIn(word, result.err)
                self.assertEqual(len(result.out.splitlines()), 1)

    def test_paths_are_text_in_a_script(self):
        result = carat("chat", *GREEDY, "--json", stdin=f"What is {self.picture}?\n")
        self.assertEqual(json.loads(result.out)["usage"]["prompt_tokens"], self.figures(f"What is {self.picture}?")[0])

    def typed(self, *lines):
        """Types lines at a terminal, each until something shows, and gives all that was shown."""
        terminal = Terminal("chat", *GREEDY, "--stats")
        shown = ""
        for line, expected in lines:
            terminal.wait_for_prompt()
            terminal.send(line + "\r")
            shown += terminal.wait_for(expected)
        terminal.wait_for_prompt()
        terminal.send("/quit\r")
        self.assertEqual(terminal.exit_code(), 0)
        return shown

    def test_dropped_files(self):
        spaced = self.path("my \"own\" picture.PPM", ppm(96, 96))
        quoted = "'" + spaced + "'"
        escaped = spaced.replace("\\", "\\\\").replace(" ", "\\ ").replace('"', '\\"')
        url = "file://" + spaced.replace(" ", "%20").replace('"', "%22")
        for line in (quoted, escaped, url, spaced):
            with self.subTest(line=line):
                shown = self.typed((line, "goes with your next message"), ("Hm?", r"context: "))
                self.assertIn("96 x 96 pixels", shown)
                self.assertEqual(shown.count("[prompt "), 1)
        shown = self.typed((f"What's in {self.picture} and {self.sound} then?", r"context: "))
        self.assertIn("640 x 480", shown)
        self.assertIn("1.5 s, 38 tokens", shown)
        expected = self.figures("--image", self.picture, "What's in and then?", "--audio", self.sound)[0]
        self.assertIn(f"[prompt {expected} tokens", shown)


class Others(Media):
    def test_inspect_tells_what_it_sees_with(self):
        self.assertRegex(carat("inspect", DEMO).out, r"projector +.*mmproj-carat-demo\.gguf, 4\.\d+ MB: it sees and hears")
        found = json.loads(carat("inspect", DEMO, "--json").out)
        self.assertEqual((found["sees"], found["hears"], found["image_block"]), (True, True, 48))
        alone = self.path("model.gguf")
        shutil.copyfile(DEMO, alone)
        self.assertIn("none: it neither sees nor hears", carat("inspect", alone).out)
        self.assertIn("it sees and hears", carat("inspect", alone, "--projector", found["projector"]).out)

    def test_bench_media(self):
        words = ["bench", "--media", "--runs", "1", "--image-tokens", "70", "--image", self.picture, "--audio", self.sound]
        found = json.loads(carat(*words, "--json").out)
        self.assertEqual([(m["type"], m["tokens"]) for m in found["media"]], [("image", 63), ("sound", 38)])
        for m in found["media"]:
            self.assertGreater(m["prepare_ms"], 0)
            self.assertAlmostEqual(m["share"], (m["prepare_ms"] + m["embed_ms"]) / m["prefill_ms"], 2)
        self.assertEqual(found["is_within"], found["largest_share"] < found["share_limit"])
        self.assertRegex(carat(*words).out, r"(?m)^image 70 +63 ")

    def test_verify_finds_a_wrong_projection(self):
        copy = self.path("mixed")
        shutil.copytree(f"{DATA}/fixtures/unified-mixed", copy)
        shutil.copytree(f"{DATA}/fixtures/unified-text/model", self.path("unified-text/model"))
        path = os.path.join(copy, "golden.safetensors")
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            size = int.from_bytes(f.read(8), "little")
            begin = json.loads(f.read(size))["out.audio.embeds"]["data_offsets"][0]
            f.seek(8 + size + begin)
            f.write(b"\x00\x00\x80\x42")  # 64.0
        found = json.loads(carat("verify", copy, "--json").out)
        self.assertEqual([c["what"] for c in found["goldens"][0]["checks"] if c["status"] == "fail"], ["out.audio.embeds"])

    @unittest.skipUnless(HAS_FFMPEG, "a build without FFmpeg")
    def test_what_make_run_shows_is_right(self):
        done = subprocess.run([os.path.join(ROOT, "tools", "show.sh"), CARAT], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.splitlines()[2::3], ["The capital of France is Paris.", "A blue square.", "purple three down go"])
        self.assertEqual(done.stderr, "")


if __name__ == "__main__":
    unittest.main()
