# SPDX-License-Identifier: Apache-2.0
"""carat eval on questions: scores worked out here once more, and what is said of wrong files."""
import json
import math
import os
import re
import shutil
import unicodedata
import unittest

from common import DEMO, CommandTest, Terminal, carat

EVAL = os.path.join(os.path.dirname(DEMO), "eval")
# As the model was trained.
MEDIA = ["--image-tokens", "70", "--video-frames", "4"]
HAS_FFMPEG = "FFmpeg" not in carat("run", "--image", os.path.join(EVAL, "image_000.png"), "--max-tokens", "1", "x").err


def read_questions(kinds):
    with open(os.path.join(EVAL, "questions.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [row for row in rows if row["kind"].split(":")[0] in kinds]


def demo_kinds():
    # Pictures and films are compressed.
    return ["audio", "text", "tool", "think"] + (["image", "video"] if HAS_FFMPEG else [])


class Tasks(CommandTest):
    def write(self, rows, name="q.jsonl"):
        return self.path(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def write_demo(self, rows):
        """Questions of the demonstration model, their media beside them."""
        for row in rows:
            for message in row["messages"]:
                for part in message["content"] if isinstance(message["content"], list) else []:
                    if "path" in part:
                        shutil.copy(os.path.join(EVAL, part["path"]), self.folder)
        return self.write(rows)

    def score(self, path, *options, code=0):
        result = carat("eval", path, "--json", *options, timeout=280)
        self.assertEqual(result.code, code, result.err)
        return json.loads(result.out)["models"][0]

    def score_rows(self, rows, *options, code=0):
        return self.score(self.write(rows), *options, code=code)

    def assert_refuses(self, line, *words):
        """The second line of a file is wrong."""
        text = line if isinstance(line, (str, bytes)) else json.dumps(line, ensure_ascii=False)
        text = text if isinstance(text, bytes) else text.encode("utf-8")
        path = self.path("bad.jsonl", b'{"prompt": "a", "expected": "b"}\n' + text + b"\n")
        result = carat("eval", path)
        self.assert_fails(result, 1, "bad.jsonl: line 2: ", *words)


# ------------------------------------------------------------------------------ the demonstration model


class Demo(Tasks):
    """What the model card states of its questions."""

    def test_scores_are_those_of_the_reference(self):
        with open(os.path.join(os.path.dirname(DEMO), "scores.json"), encoding="utf-8") as f:
            stated = json.load(f)
        kinds = demo_kinds()
        stated = {task: s for task, s in stated.items() if task.split(":")[0] in kinds}
        found = self.score(self.write_demo(read_questions(kinds)), *MEDIA)
        self.assertEqual({t["task"]: {"right": t["right"], "of": t["of"]} for t in found["tasks"]}, stated)
        self.assertEqual(found["all"]["of"], sum(s["of"] for task, s in stated.items() if ":" not in task))
        self.assertEqual(found["all"]["right"], sum(s["right"] for task, s in stated.items() if ":" not in task))


# ------------------------------------------------------------------------------ answers


class Answers(Tasks):
    def test_answers_are_those_of_run(self):
        rows = read_questions(["audio", "tool", "think"])
        rows = rows[:3] + [r for r in rows if r["kind"] == "tool:call"][:2] + rows[-2:]
        found = self.score(self.write_demo(rows), *MEDIA)["answers"]
        for row, answer in zip(rows, found, strict=True):
            talk = self.path(row["id"] + ".json", json.dumps({"messages": row["messages"], "tools": row["tools"]}))
            told = json.loads(carat("run", "--messages", talk, "--json", "--temperature", "0",
                                    *(["--think"] if row["thinking"] else [])).out)
            with self.subTest(row["id"]):
                self.assertEqual(answer["id"], row["id"])
                self.assertEqual(answer["task"], row["kind"])
                self.assertEqual(answer["expected"], row["expected"])
                self.assertEqual(answer["answer"], told["content"])
                self.assertEqual(answer.get("reasoning", ""), told["reasoning"])
                self.assertEqual(answer.get("tool_calls", []), told["tool_calls"])
                self.assertEqual(answer["answer_tokens"], told["usage"]["completion_tokens"])

    def test_how_many_at_a_time_changes_nothing(self):
        path = self.write_demo(read_questions(["audio", "text", "tool", "think"]))
        lasting = []
        for n in ["1", "3", "16"]:
            found = self.score(path, "--parallel", n, "--temperature", "0.9", "--seed", "7")
            lasting.append([(a["line"], a["answer"], a["right"], a.get("tool_calls")) for a in found["answers"]])
        self.assertEqual(lasting[0], lasting[1])
        self.assertEqual(lasting[0], lasting[2])
        other = self.score(path, "--temperature", "0.9", "--seed", "8")
        self.assertNotEqual([a["answer"] for a in other["answers"]], [a[1] for a in lasting[0]])

    def test_forms_of_a_question(self):
        question = read_questions(["audio"])[0]["messages"][0]["content"]
        text = next(p["text"] for p in question if p["type"] == "text")
        sound = os.path.join(EVAL, next(p["path"] for p in question if p["type"] == "audio"))
        shutil.copy(sound, self.path("here.wav"))
        rows = [
            {"messages": [{"role": "user", "content": [{"type": "audio", "path": "here.wav"},
                                                       {"type": "text", "text": text}]}], "expected": "x"},
            {"prompt": text, "audio": "here.wav", "expected": "x"},
            {"prompt": text, "audio": [sound], "expected": "x"},
            {"prompt": "What is 1 + 6?", "system": "You are carat-demo.", "expected": "7", "id": 12},
            {"messages": [{"role": "system", "content": "You are carat-demo."},
                          {"role": "user", "content": "What is 1 + 6?"}], "expected": "7"},
            {"prompt": "What is 1 + 6?", "expected": "7"},
            {"prompt": "What is 1 + 6?", "expected": "7", "thinking": True},
        ]
        a = self.score_rows(rows)["answers"]
        self.assertEqual(len({(x["prompt_tokens"], x["answer"]) for x in a[:3]}), 1)
        self.assertEqual(a[3]["prompt_tokens"], a[4]["prompt_tokens"])
        self.assertGreater(a[3]["prompt_tokens"], a[5]["prompt_tokens"])
        self.assertEqual([x["right"] for x in a[3:]], [True] * 4)
        self.assertEqual([x.get("id") for x in a], [None, None, None, "12", None, None, None])
        self.assertNotIn("reasoning", a[5])
        self.assertIn("reasoning", a[6])

    def test_answers_end_where_they_are_told_to(self):
        row = {"prompt": "Are you human?", "expected": "No, I am a tiny language model."}
        a = self.score_rows([row, dict(row, max_tokens=3), row], "--max-tokens", "5")["answers"]
        self.assertEqual([x["answer_tokens"] for x in a], [5, 3, 5])
        self.assertEqual([x["finish_reason"] for x in a], ["length"] * 3)
        a = self.score_rows([row, dict(row, max_tokens=3)])["answers"]
        self.assertEqual([x["finish_reason"] for x in a], ["stop", "length"])
        self.assertEqual([x["right"] for x in a], [True, False])


# ------------------------------------------------------------------------------ scores


def words_of(text):
    """The words by their definition, with Python's Unicode."""
    out, previous = "", " "
    text = text.replace("\u2019", "'")

    def is_gap(c):
        return c.isspace() or unicodedata.category(c)[0] in "PS"

    for i, c in enumerate(text):
        following = text[i + 1] if i + 1 < len(text) else " "
        keeps = c == "'" and not (is_gap(previous) and previous != "'") and not is_gap(following) and out[-1:] not in " '"
        out += c.lower() if keeps or not is_gap(c) else " "
        previous = c
    return out.split()


def errors(reference, answer):
    """Fewest errors, of these ways the one with most substitutions: substituted, missing, added."""
    rows = [(j, 0, 0, j) for j in range(len(answer) + 1)]  # errors, substituted, missing, added
    for i, a in enumerate(reference, 1):
        above, rows = rows, [(i, 0, i, 0)]
        for j, b in enumerate(answer, 1):
            e, s, d, n = above[j - 1]
            ways = [(e, s, d, n) if a == b else (e + 1, s + 1, d, n)]
            e, s, d, n = above[j]
            ways.append((e + 1, s, d + 1, n))
            e, s, d, n = rows[j - 1]
            ways.append((e + 1, s, d, n + 1))
            rows.append(min(ways, key=lambda w: (w[0], w[2] + w[3])))
    return rows[-1][1:]


class Scores(Tasks):
    def test_word_errors(self):
        # The model repeats what it is asked to, so the answers are known.
        said = "garden gold gold fish"
        references = [
            ("garden gold gold fish", (0, 0, 0)),
            ("Garden, Gold-gold: FISH!", (0, 0, 0)),
            ("garden gold fish", (0, 0, 1)),
            ("garden gold gold old fish", (0, 1, 0)),
            ("garden silver gold fish", (1, 0, 0)),
            ("the garden's gold", (2, 0, 1)),
            ("nothing", (1, 0, 3)),
            ("gold garden fish gold of the sea", None),
        ]
        rows = [{"prompt": "Repeat: " + said, "expected": text, "score": "wer", "task": "asr:repeat"}
                for text, _ in references]
        found = self.score_rows(rows)
        sums, squares = [0, 0], []
        for (text, known), answer in zip(references, found["answers"], strict=True):
            self.assertEqual(answer["answer"], said)
            expected = errors(words_of(text), words_of(said))
            with self.subTest(text):
                self.assertEqual(expected, known or expected)
                counted = answer["words"]
                self.assertEqual((counted["substituted"], counted["missing"], counted["added"]), expected)
                self.assertEqual(counted["n"], len(words_of(text)))
                self.assertEqual(answer["right"], sum(expected) == 0)
                letters = answer["characters"]
                self.assertEqual((letters["substituted"], letters["missing"], letters["added"]),
                                 errors(" ".join(words_of(text)), " ".join(words_of(said))))
                self.assertEqual(letters["n"], len(" ".join(words_of(text))))
                sums[0] += sum(expected)
                sums[1] += counted["n"]
                squares.append((sum(expected), counted["n"]))
        rate = sums[0] / sums[1]
        spread = sum((e - rate * n) ** 2 for e, n in squares) * len(squares) / (len(squares) - 1)
        for tally in [found["all"]] + found["tasks"]:
            self.assertAlmostEqual(tally["wer"], rate, 8)
            self.assertAlmostEqual(tally["wer_error"], math.sqrt(spread) / sums[1], 8)
            self.assertEqual((tally["right"], tally["of"], tally["transcripts"]), (2, 8, 8))
        # Among several texts the nearest one counts.
        row = {"prompt": "Repeat: " + said, "score": "wer", "expected": [t for t, _ in references[3:]]}
        answer = self.score_rows([row])["answers"][0]
        self.assertEqual(answer["words"], {"n": 5, "substituted": 0, "missing": 1, "added": 0})

    def test_words_of_transcripts(self):
        """Sounds: the answers are what they are, the errors are counted again."""
        rows = [dict(row, score="wer") for row in read_questions(["audio"])]
        found = self.score(self.write_demo(rows))
        sums = [0, 0]
        for row, answer in zip(rows, found["answers"], strict=True):
            reference = words_of(row["expected"])
            expected = errors(reference, words_of(answer["answer"]))
            counted = answer["words"]
            self.assertEqual((counted["substituted"], counted["missing"], counted["added"]), expected)
            sums[0] += sum(expected)
            sums[1] += len(reference)
        self.assertAlmostEqual(found["all"]["wer"], sums[0] / sums[1], 8)
        self.assertTrue(0 < found["all"]["wer"] < 0.5)

    def test_exact(self):
        answer = "The sky is blue."
        rows = [
            (answer, {}, True),
            ("  The sky is blue.\n", {}, True),
            ("the sky is blue.", {}, False),
            ("the SKY is blue.", {"ignore": "case"}, True),
            ("the sky is blue", {"ignore": "case"}, False),
            ("the (sky) is: blue", {"ignore": "punctuation"}, True),
            ("the sky is blue too", {"ignore": "punctuation"}, False),
            (["The sky is red.", answer], {}, True),
            (["The sky is red.", {"name": "f"}], {}, False),
            ("The sky is blue. ", {"score": "exact", "ignore": "nothing"}, True),
        ]
        found = self.score_rows([{"prompt": "What color is the sky?", "expected": text, **more} for text, more, _ in rows])
        for (text, more, right), a in zip(rows, found["answers"], strict=True):
            self.assertEqual((a["answer"], a["right"]), (answer, right), (text, more))
            self.assertEqual(a["expected"], [text[0], [{"name": "f", "arguments": {}}]]
                             if isinstance(text, list) and isinstance(text[1], dict) else text)

    def test_calls(self):
        row = next(r for r in read_questions(["tool"]) if r["kind"] == "tool:call" and "Oslo" in r["expected"])
        right = {"name": "get_weather", "arguments": {"city": "Oslo"}}
        cases = [
            (row["expected"], True),
            (row["expected"].replace("Oslo", "Lima"), False),
            (row["expected"] + row["expected"], False),
            (right, True),
            ([[right]], True),
            ([[right, right]], False),
            ([{"name": "get_time", "arguments": {"city": "Oslo"}}, right], True),
            ({"name": "get_weather", "arguments": {"city": "Oslo", "x": None}}, False),
            ({"name": "get_weather", "arguments": {}}, False),
            ({"name": "get_weather"}, False),
            ("", False),
            ("Oslo", False),
        ]
        found = self.score_rows([dict(row, expected=expected) for expected, _ in cases])
        for (expected, is_right), a in zip(cases, found["answers"], strict=True):
            self.assertEqual(a["right"], is_right, expected)
            self.assertEqual(a["tool_calls"], [right])

    def test_regex(self):
        answer = "The sky is blue."
        rows = [
            ("blue", {}), ("^blue", {}), (r"^The sky is (blue|grey)\.$", {}), (r"\d", {}), ("BLUE|sky", {}),
            ("the sky", {}), ("the sky", {"ignore": "case"}), ("is blue$", {}), ("is blue$", {"ignore": "punctuation"}),
            (["red", "bl.e"], {}), ("^.{16}$", {}), ("^(.*)*x$", {}),
        ]
        found = self.score_rows([{"prompt": "What color is the sky?", "expected": e, "score": "regex", **more}
                                 for e, more in rows])
        for (expected, more), a in zip(rows, found["answers"], strict=True):
            text = answer.lower() if more else answer
            text = text.rstrip(".") if more.get("ignore") == "punctuation" else text
            patterns = expected if isinstance(expected, list) else [expected]
            # Python's own matcher would not end with the last one.
            right = any(re.search(p, text) for p in patterns if "*)*" not in p)
            self.assertEqual((a["answer"], a["right"]), (answer, right), (expected, more))

    def test_share_and_its_interval(self):
        rows = [{"prompt": "What is 1 + 6?", "expected": "7" if i < 7 else "8", "task": "t"} for i in range(10)]
        found = self.score_rows(rows)
        self.assertEqual(len(found["tasks"]), 1)
        for t in [found["all"], found["tasks"][0]]:
            self.assertEqual((t["right"], t["of"], t["failed"]), (7, 10, 0))
            self.assertAlmostEqual(t["share"], 0.7, 9)
            self.assertAlmostEqual(t["share_error"], math.sqrt(0.7 * 0.3 / 10), 9)
            # Wilson's interval of 7 in 10, as published tables have it.
            self.assertAlmostEqual(t["share_95"][0], 0.3968, 4)
            self.assertAlmostEqual(t["share_95"][1], 0.8922, 4)


class Choices(Tasks):
    def test_likelihood_of_a_token(self):
        """A plain text's next token: the figures are those of run --logprobs."""
        told = json.loads(carat("run", "--no-template", "The sky is", "--json", "--logprobs", "20", "--max-tokens", "1",
                                "--temperature", "0").out)["logprobs"][0]["top"]
        words = [t for t in told if t["token"].startswith(" ")][:4]
        self.assertEqual(len(words), 4)
        for order in (words, words[::-1]):
            row = {"prompt": "The sky is", "raw": True, "choices": [t["token"] for t in order],
                   "expected": words[0]["token"]}
            a = self.score_rows([row])["answers"][0]
            self.assertTrue(a["right"])
            self.assertEqual(a["choice"], order.index(words[0]))
            for t, logprob in zip(order, a["logprobs"], strict=True):
                self.assertAlmostEqual(t["logprob"], logprob, 6)

    def test_likelihood_of_an_answer(self):
        """An answer and its end: the sum over the tokens that run reports."""
        question = "What color is the sky?"
        told = json.loads(carat("run", question, "--json", "--logprobs", "1", "--temperature", "0").out)
        total = sum(t["logprob"] for t in told["logprobs"])
        choices = ["The sky is red.", told["content"], "The sky is blue", "The sky is blue. The sky is blue."]
        answers = [self.score_rows([{"prompt": question, "choices": c, "expected": [1 if c is choices else told["content"]]}])
                   ["answers"][0] for c in (choices, choices[::-1])]
        self.assertAlmostEqual(answers[0]["logprobs"][1], total, 5)
        self.assertTrue(answers[0]["right"] and answers[0]["answer"] == told["content"])
        self.assertEqual(answers[0]["choice"], 1)
        self.assertEqual(answers[1]["choice"], 2)
        # What was scored before leaves no trace.
        self.assertEqual(answers[0]["logprobs"], answers[1]["logprobs"][::-1])

    def test_longer_choices_are_less_likely(self):
        # The likelihood of each byte may prefer another choice than the sum does.
        row = {"prompt": "The sky is", "raw": True, "choices": [" two", " two. The sky is blue."], "expected": 1}
        found = self.score_rows([row])
        a = found["answers"][0]
        sums = a["logprobs"]
        by_length = [sums[0] / len(" two"), sums[1] / len(" two. The sky is blue.")]
        self.assertGreater(sums[0], sums[1])
        self.assertEqual(a["choice"], 0)
        self.assertEqual(a["choice_by_length"], by_length.index(max(by_length)))
        self.assertEqual(found["all"]["right"], 0)
        self.assertEqual(found["all"]["right_by_length"], int(a["choice_by_length"] == 1))
        self.assertEqual(found["all"]["choices"], 1)

    def test_long_prompts_and_pictures(self):
        """Prompts longer than the sliding window are read once, then taken back to."""
        words = "garden gold fish road tea bread cup ring cat cloud".split()
        prompt = "Repeat: " + " ".join(words[i % 10] for i in range(400))
        rows = [{"prompt": prompt, "choices": ["garden", "fish", "gold and a longer one", "garden"], "expected": 0}]
        kinds = ["audio"] + (["image"] if HAS_FFMPEG else [])
        for row in read_questions(kinds)[:1] + read_questions(["audio"])[:1]:
            rows.append({"messages": row["messages"], "choices": ["no such thing", row["expected"]], "expected": 1})
        path = self.write_demo([dict(r, messages=r.get("messages", [{"role": "user", "content": r.get("prompt", "")}]))
                                if "messages" in r else r for r in rows if "messages" in r])
        shutil.move(path, self.path("media.jsonl"))
        long = self.score(self.write(rows[:1]))
        a = long["answers"][0]
        self.assertGreater(a["prompt_tokens"], 400)
        self.assertEqual(a["logprobs"][0], a["logprobs"][3])
        self.assertGreater(long["reused_tokens"], 2 * a["prompt_tokens"])
        media = self.score(self.path("media.jsonl"), *MEDIA)
        self.assertEqual([x["right"] for x in media["answers"]], [True, True])


# ------------------------------------------------------------------------------ what is printed


class Report(Tasks):
    ROWS = [
        {"id": "a", "task": "sum", "prompt": "What is 1 + 6?", "expected": "7"},
        {"id": "b", "task": "sum", "prompt": "Add 3 and 4.", "expected": "8"},
        {"id": "c", "task": "talk:repeat", "prompt": "Repeat: cloud lamp", "expected": "cloud lamp", "score": "wer"},
        {"id": "d", "task": "talk:sky", "prompt": "The sky is", "raw": True, "choices": [" blue", " red"], "expected": 0},
        {"prompt": "Are you human?", "expected": "No"},
    ]

    def test_table(self):
        path = self.write(self.ROWS, "some.questions.jsonl")
        result = carat("eval", path, "--wrong", "5")
        self.assertEqual(result.code, 0, result.err)
        table, wrong = result.out.split("\n\n")
        rows = [line.split() for line in table.splitlines()]
        self.assertEqual(rows[0][:4], ["task", "right", "of", "share"])
        self.assertEqual([(r[0], r[1], r[2], r[3]) for r in rows[1:]], [
            ("sum", "1", "2", "50.0%"), ("talk", "2", "2", "100.0%"), ("talk:repeat", "1", "1", "100.0%"),
            ("talk:sky", "1", "1", "100.0%"), ("some.questions", "0", "1", "0.0%"), ("all", "3", "5", "60.0%")])
        self.assertIn("WER", table)
        self.assertLessEqual(max(map(len, table.splitlines())), 100)
        self.assertEqual(wrong.splitlines(), [
            f'{path}:2 b: expected "8", found "7"',
            f'{path}:5: expected "No", found "No, I am a tiny language model."'])
        self.assertIn("5 questions", result.err)
        self.assertEqual(carat("eval", path, "--quiet").err, "")
        self.assertEqual(len(carat("eval", path, "--wrong", "1").out.split("\n\n")[1].splitlines()), 1)

    def test_long_answers_are_cut_between_characters(self):
        path = self.write([{"prompt": "What is 1 + 6?", "expected": "\u00e9\u20ac" * 200}])
        line = carat("eval", path, "--wrong", "1").out.split("\n\n")[1]
        self.assertRegex(line, r'expected "[\u00e9\u20ac]{110,125}\.\.\., found "7"')

    def test_several_models_stand_side_by_side(self):
        other = self.path("other.gguf")
        os.symlink(DEMO, other)
        path = self.write(self.ROWS)
        result = carat("eval", DEMO, other, path)
        self.assertEqual(result.code, 0, result.err)
        rows = [line.split() for line in result.out.splitlines()]
        self.assertEqual(rows[0], ["task", "of", "carat-demo.gguf", "other.gguf"])
        self.assertEqual(rows[1], ["sum", "2", "50.0%", "50.0%"])
        self.assertEqual(rows[3], ["talk:repeat", "1", "WER", "0.0%", "WER", "0.0%"])
        found = json.loads(carat("eval", DEMO, other, path, "--json").out)["models"]
        self.assertEqual([m["model"] for m in found], ["carat-demo.gguf", "other.gguf"])
        self.assertEqual(found[0]["tasks"], found[1]["tasks"])

    def test_a_low_score_is_no_failure_unless_asked_for(self):
        path = self.write(self.ROWS)
        self.assertEqual(carat("eval", path).code, 0)
        self.assertEqual(carat("eval", path, "--min-score", "0.6").code, 0)
        result = carat("eval", path, "--min-score", "0.61")
        self.assertEqual(result.code, 1)
        self.assertIn("expected at least 0.61, found 0.6", result.err)
        self.assertIn("60.0%", result.out)

    def test_several_files(self):
        a, b = self.write(self.ROWS[:2], "a.jsonl"), self.write(self.ROWS[4:], "b.jsonl")
        found = self.score(a, b)
        self.assertEqual([t["task"] for t in found["tasks"]], ["sum", "b"])
        self.assertEqual([(x["file"], x["line"]) for x in found["answers"]], [(a, 1), (a, 2), (b, 1)])

    def test_blank_lines_and_windows_ends(self):
        path = self.path("w.jsonl", "\r\n  \n" + "\r\n".join(json.dumps(r) for r in self.ROWS[:2]))
        self.assertEqual([x["line"] for x in self.score(path)["answers"]], [3, 4])


# ------------------------------------------------------------------------------ trouble


class Hostile(Tasks):
    def test_lines_are_refused_with_their_place(self):
        good = {"prompt": "a", "expected": "b"}
        choice = {"prompt": "a", "choices": ["x", "y"], "expected": "x"}
        cases = [
            ("{", "JSON"), ("[]", "expected an object, found an array"), ("7", "expected an object"),
            ('{"prompt": "a"}', "expected: expected the answer that is right, found"),
            ({"expected": "b"}, "expected either \"prompt\" or \"messages\", found neither"),
            (dict(good, messages=[]), "found both"),
            ({"messages": [], "expected": "b"}, "messages: expected some"),
            ({"messages": {}, "expected": "b"}, "messages: expected a list"),
            ({"messages": [{"content": "a"}], "expected": "b"}, "message 0: role: expected a string"),
            (dict(good, prompt=5), "prompt: expected a string, found a number"),
            (dict(good, id=[]), "id: expected a string"), (dict(good, id="x" * 257), "id: expected at most 256 bytes"),
            (dict(good, task="x" * 129), "task: expected at most 128"), (dict(good, kind=3), "task: expected a string"),
            (dict(good, system=1), "system"), (dict(good, tools=1), "tools: expected a list"),
            (dict(good, thinking="yes"), "thinking: expected true or false"),
            (dict(good, max_tokens=0), "max_tokens"), (dict(good, max_tokens=1.5), "max_tokens"),
            (dict(good, max_tokens=2**40), "max_tokens"),
            (dict(good, score="bleu"), "score: expected exact, choice, regex or wer, found 'bleu'"),
            (dict(good, score=1), "score: expected exact"), (dict(good, ignore="all"), "ignore: expected nothing"),
            (dict(good, ignore="case", score="wer"), "ignore: says nothing"),
            (dict(good, expected=5), "expected: expected a string, found a number"),
            (dict(good, expected=[]), "expected 1 to 1000 answers, found 0"),
            (dict(good, expected=["x"] * 1001), "found 1001"),
            (dict(good, expected=["x"] * 65, score="regex"), "expected 1 to 64 answers, found 65"),
            (dict(good, expected="x" * 200001), "expected: expected at most 200000 bytes"),
            (dict(good, expected={"arguments": {}}), "a call is"), (dict(good, expected={"name": "f", "arguments": "x"}), "a call is"),
            (dict(good, expected="...", score="wer"), "there is no word in '...'"),
            (dict(good, expected="(", score="regex"), "expected: regex: at byte 1"),
            (dict(good, expected="(?=x)", score="regex"), "regex"), (dict(good, expected="a\0b", score="regex"), "zero byte"),
            (dict(good, expected="x" * 4097, score="regex"), "at most 4096 bytes"),
            (dict(choice, expected="z"), "'z' is not among the choices"), (dict(choice, expected=2), "from 0 to 1"),
            (dict(choice, expected=-1), "from 0 to 1"), (dict(choice, expected=True), "one of the choices"),
            (dict(choice, choices=["x"]), "expected 2 to 1000 of them, found 1"), (dict(choice, choices="xy"), "a list of strings"),
            (dict(choice, choices=["x", ""]), "not empty"), (dict(choice, choices=["x", 1]), "not empty"),
            (dict(choice, score="exact"), "only the score choice"), (dict(good, score="choice"), "found none"),
            (dict(choice, thinking=True), "without thoughts"),
            (dict(good, raw=True, system="x"), "raw: the prompt is a plain text then, without system"),
            (dict(good, raw=True, thinking=True), "no thoughts"), (dict(good, raw=1), "raw: expected true or false"),
            (dict(good, image="none.png"), "none.png: no such file"), (dict(good, audio=3), "audio: expected a path"),
            (dict(good, video=["a.mp4", 1]), "video: expected a path"), (dict(good, image="http://x/a.png"), "does not fetch"),
            (b'{"prompt": "\xff", "expected": "b"}', "JSON"), ("[" * 600, "JSON"),
        ]
        for line, *words in cases:
            with self.subTest(line=str(line)[:80]):
                self.assert_refuses(line, *words)

    def test_nothing_is_asked_before_all_lines_are_read(self):
        path = self.path("late.jsonl", json.dumps({"prompt": "a", "expected": "b"}) + "\n{\n")
        result = carat("eval", "/nowhere/model.gguf", path)
        self.assert_fails(result, 1, "late.jsonl: line 2")
        # Nor before all models are found.
        path = self.write([{"prompt": "a", "expected": "b"}])
        self.assert_fails(carat("eval", DEMO, "/nowhere/model.gguf", path), 1, "/nowhere/model.gguf")

    def test_questions_that_cannot_be_asked_are_told_and_the_others_scored(self):
        with open(self.path("bad.wav"), "wb") as f:
            f.write(b"RIFF")
        rows = [
            {"prompt": "x", "audio": "bad.wav", "expected": "b", "task": "t"},
            {"prompt": "What is 1 + 6?", "expected": "7", "task": "t"},
            {"prompt": "word " * 500, "expected": "b", "task": "t"},
            {"prompt": "word " * 500, "choices": ["a", "b"], "expected": 0},
            {"prompt": "Add 3 and 4.", "expected": "7", "task": "t"},
        ]
        path = self.write(rows)
        result = carat("eval", path, "--json", "--context", "256")
        self.assertEqual(result.code, 1)
        for i in (1, 3, 4):
            self.assertIn(f"q.jsonl: line {i}: ", result.err)
        self.assertIn("3 questions could not be asked", result.err)
        found = json.loads(result.out)["models"][0]
        self.assertEqual([(t["task"], t["right"], t["of"], t["failed"]) for t in found["tasks"]],
                         [("t", 2, 2, 2), ("q", 0, 0, 1)])
        self.assertEqual(["error" in a for a in found["answers"]], [True, False, True, True, False])
        self.assertIn("256", found["answers"][2]["error"])
        self.assertEqual(carat("eval", path, "--context", "256").code, 1)

    def test_command_line(self):
        path = self.write([{"prompt": "a", "expected": "b"}])
        text = self.path("text.txt", "some text")
        self.assertEqual(carat("eval", path, text).code, 1)
        self.assertEqual(carat("eval", path, "--against", DEMO).code, 1)
        self.assert_fails(carat("eval", path, "--image-tokens", "100"), 1, "70, 140, 280, 560 or 1120")
        self.assertEqual(carat("eval", path, "--min-score", "2").code, 2)
        self.assertEqual(carat("eval", path, "--parallel", "0").code, 2)

    def test_ctrl_c_ends_it(self):
        path = self.write([{"prompt": "Write a story about a owl.", "expected": "x", "max_tokens": 4000}] * 1000)
        terminal = Terminal("eval", path, "--temperature", "1")
        terminal.wait_for("questions answered")
        terminal.send("\x03")
        self.assertIn("interrupted", terminal.wait_for("interrupted"))
        self.assertRegex(str(terminal.exit_code()), "^130")


if __name__ == "__main__":
    unittest.main()
