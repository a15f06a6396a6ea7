# SPDX-License-Identifier: Apache-2.0
"""run and chat on the demonstration model."""
import json
import os
import signal
import subprocess
import time
import unittest

from common import CARAT, DEMO, CommandTest, Terminal, carat, stop_biases

GREEDY = ["--temperature", "0"]


class Run(CommandTest):
    def test_answer_alone_on_stdout(self):
        result = carat("run", DEMO, "What is the capital of France?", *GREEDY)
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn("Paris", result.out)
        self.assertTrue(result.out.endswith("\n"))
        self.assertFalse(result.out.endswith("\n\n"))

    def test_model_from_the_environment(self):
        named = carat("run", DEMO, "Hello", *GREEDY)
        self.assertEqual(carat("run", "Hello", *GREEDY).out, named.out)

    def test_prompt_by_argument_and_by_pipe_are_one(self):
        prompt = "What is the capital of France?"
        expected = carat("run", prompt, *GREEDY).out
        self.assertEqual(carat("run", *GREEDY, stdin=prompt + "\n").out, expected)
        self.assertEqual(carat("run", "-", *GREEDY, stdin=prompt).out, expected)
        self.assertEqual(carat("run", DEMO, *GREEDY, stdin=prompt).out, expected)
        both = carat("run", "What is the capital", *GREEDY, "--json", stdin="of France?")
        joined = carat("run", "What is the capital\n\nof France?", *GREEDY, "--json")
        self.assertEqual(json.loads(both.out)["content"], json.loads(joined.out)["content"])

    def test_an_input_that_never_ends_is_remarked_upon(self):
        process = subprocess.Popen([CARAT, "run", "Hello", *GREEDY], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn(b"standard input", process.stderr.readline())
        out, _ = process.communicate(b"there", timeout=30)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(out.decode(), carat("run", "Hello", *GREEDY, stdin="there").out)

    def test_prompt_after_dashes_may_look_like_anything(self):
        self.assertEqual(carat("run", *GREEDY, "--max-tokens", "4", "--", "--help").code, 0)
        self.assertEqual(carat("run", *GREEDY, "--max-tokens", "4", "--", "a/b.gguf").code, 0)

    def test_seed_decides_on_any_number_of_threads(self):
        words = ["run", "Tell me something", "--seed", "11", "--temperature", "1.5", "--top-p", "1",
                 "--max-tokens", "24", *stop_biases()]
        outs = [carat(*words, "--threads", n).out for n in ("1", "2", "3", "1")]
        self.assertEqual(len(set(outs)), 1, outs)
        others = {carat(*words[:3], str(seed), *words[4:]).out for seed in (12, 13, 14)}
        self.assertTrue(others - set(outs))

    def test_a_random_seed_is_told_and_repeats(self):
        words = ["run", "Tell me something", "--json", "--max-tokens", "16", *stop_biases()]
        first = json.loads(carat(*words).out)
        again = json.loads(carat(*words, "--seed", first["seed"]).out)
        self.assertEqual(first["content"], again["content"])

    def test_json_has_the_whole_story(self):
        found = json.loads(carat("run", "Hello", "--json", *GREEDY).out)
        self.assertEqual(found["finish_reason"], "stop")
        self.assertEqual(found["tool_calls"], [])
        self.assertGreater(found["usage"]["prompt_tokens"], 0)
        self.assertGreater(found["usage"]["completion_tokens"], 0)
        plain = carat("run", "Hello", *GREEDY).out
        self.assertEqual(found["content"] + "\n", plain)

    def test_max_tokens(self):
        found = json.loads(carat("run", "Hello", "--json", *GREEDY, "--max-tokens", "3",
                                 *stop_biases()).out)
        self.assertEqual((found["finish_reason"], found["usage"]["completion_tokens"]), ("length", 3))

    def test_stop_string(self):
        whole = carat("run", "What is the capital of France?", *GREEDY).out
        found = json.loads(carat("run", "What is the capital of France?", *GREEDY, "--json",
                                 "--stop", "nowhere", "--stop", "Par").out)
        self.assertEqual(found["content"], whole[:whole.index("Par")].rstrip())
        self.assertEqual((found["finish_reason"], found["stop_string"]), ("stop", "Par"))

    def test_logprobs_are_probabilities(self):
        found = json.loads(carat("run", "Hello", "--json", *GREEDY, "--logprobs", "3").out)
        self.assertEqual(len(found["logprobs"]), found["usage"]["completion_tokens"])
        for one in found["logprobs"]:
            tops = [top["logprob"] for top in one["top"]]
            self.assertEqual(len(tops), 3)
            self.assertEqual(tops, sorted(tops, reverse=True))
            self.assertLessEqual(max(tops), 0)
            self.assertEqual(one["id"], one["top"][0]["id"])  # greedy
        self.assertEqual(found["content"],
                         json.loads(carat("run", "Hello", "--json", *GREEDY).out)["content"])

    def test_logit_bias_forbids(self):
        first = json.loads(carat("run", "Hello", "--json", *GREEDY, "--logprobs", "1").out)
        id = first["logprobs"][0]["id"]
        other = json.loads(carat("run", "Hello", "--json", *GREEDY, "--logprobs", "1",
                                 "--logit-bias", f"{id}=-inf").out)
        self.assertNotEqual(other["logprobs"][0]["id"], id)

    def test_messages_and_tools_from_files(self):
        messages = [{"role": "user", "content": "My name is Ada."},
                    {"role": "assistant", "content": "Hello Ada!"},
                    {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]}]
        path = self.path("talk.json", json.dumps(messages))
        as_file = carat("run", "--messages", path, "--json", *GREEDY)
        self.assertEqual(as_file.code, 0, as_file.err)
        piped = carat("run", "--messages", "-", "--json", *GREEDY, stdin=json.dumps(messages))
        self.assertEqual(json.loads(as_file.out)["content"], json.loads(piped.out)["content"])
        tool = {"type": "function", "function": {"name": "get_time", "description": "The time.",
                                                 "parameters": {"type": "object", "properties": {}}}}
        tools = self.path("tools.json", json.dumps([tool]))
        with_tools = json.loads(carat("run", "Hello", "--tools", tools, "--json", *GREEDY).out)
        without = json.loads(carat("run", "Hello", "--json", *GREEDY).out)
        self.assertGreater(with_tools["usage"]["prompt_tokens"], without["usage"]["prompt_tokens"])

    def test_wrong_messages_say_where(self):
        for content, said in (("{", "talk.json"), ("3", "list"), ('[{"role": 5}]', "role"),
                              ('[{"role": "user", "content": 5}]', "message 0: content"),
                              ('[{"role": "user", "content": [7]}]', "message 0: content"),
                              ('[{"role":"user","content":"a"},{"content":"b"}]', "message 1: role")):
            with self.subTest(content):
                path = self.path("talk.json", content)
                self.assert_fails(carat("run", "--messages", path), 1, said)
        self.assert_fails(carat("run", "--tools", self.path("none.json"), "hi"), 1, "none.json")

    def test_raw_completion(self):
        found = json.loads(carat("run", "--no-template", "The capital of", "--json", *GREEDY,
                                 "--max-tokens", "4").out)
        ids = carat("tokenize", "--bos", "The capital of").out.split()
        self.assertEqual(found["usage"]["prompt_tokens"], len(ids))

    def test_full_context_is_said(self):
        result = carat("run", "Hello", "--context", "40", *GREEDY, *stop_biases())
        self.assertEqual(result.code, 0)
        self.assertIn("--context", result.err)
        self.assert_fails(carat("run", "word " * 100, "--context", "40"), 1, "context")

    def test_statistics_on_request(self):
        self.assertRegex(carat("run", "Hello", "--stats").err, r"tokens/s")
        self.assertRegex(carat("run", "Hello", "--verbose").err, r"memory: .* weights")
        self.assertEqual(carat("run", "Hello", "--verbose", "--quiet").out != "", True)

    def test_interrupt_ends_with_130(self):
        process = subprocess.Popen([CARAT, "run", "Hello", *GREEDY, *stop_biases()],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130, err)
        self.assertTrue(first and out.endswith(b"\n"))


class ChatByPipe(CommandTest):
    def test_each_line_is_a_turn(self):
        result = carat("chat", *GREEDY, stdin="Hello\nWhat is the capital of France?\n")
        self.assertEqual((result.code, result.err), (0, ""))
        lines = result.out.splitlines()
        self.assertEqual(len(lines), 2, result.out)
        self.assertEqual(lines[0], carat("run", "Hello", *GREEDY).out.strip())

    def test_earlier_turns_are_reused(self):
        result = carat("chat", "--json", *GREEDY, stdin="Hello\nHow are you?\n")
        turns = [json.loads(line) for line in result.out.splitlines()]
        self.assertEqual(turns[0]["usage"]["reused_tokens"], 0)
        self.assertGreaterEqual(turns[1]["usage"]["reused_tokens"],
                                turns[0]["usage"]["prompt_tokens"] - 8)

    def test_a_conversation_is_saved_and_continued(self):
        path = self.path("talk.json")
        carat("chat", *GREEDY, "--system", "Be brief.", stdin=f"My name is Ada.\n/save {path}\n")
        with open(path, encoding="utf-8") as f:
            saved = json.load(f)
        self.assertEqual([m["role"] for m in saved], ["system", "user", "assistant"])
        in_one = carat("chat", *GREEDY, "--system", "Be brief.",
                       stdin="My name is Ada.\nWhat is my name?\n").out.splitlines()
        later = carat("chat", *GREEDY, "--messages", path, stdin="What is my name?\n").out
        self.assertEqual(later.strip(), in_one[-1])
        self.assertEqual(carat("run", *GREEDY, "--messages", path, "What is my name?").out, later)

    def test_clear_and_undo_forget(self):
        asked = carat("chat", *GREEDY, stdin="What is my name?\n").out
        for way in ("/clear", "/undo"):
            cleared = carat("chat", *GREEDY, stdin=f"My name is Ada.\n{way}\nWhat is my name?\n").out
            self.assertEqual(cleared.splitlines()[-1], asked.splitlines()[-1])

    def test_full_context_loses_nothing(self):
        path = self.path("talk.json")
        result = carat("chat", *GREEDY, "--context", "60",
                       stdin="Hello\n" + "word " * 80 + f"\n/save {path}\n")
        self.assertEqual(result.code, 1)
        self.assertIn("/save", result.err)
        with open(path, encoding="utf-8") as f:
            self.assertEqual([m["role"] for m in json.load(f)], ["user", "assistant"])

    def test_commands(self):
        self.assertIn("/save FILE", carat("chat", stdin="/help\n").err)
        wrong = carat("chat", stdin="/frobnicate\n")
        self.assertEqual(wrong.code, 1)
        self.assertIn("/frobnicate", wrong.err)
        self.assertEqual(carat("chat", stdin="/quit\nHello\n").out, "")

    def test_lines_join_at_a_backslash(self):
        joined = carat("chat", *GREEDY, "--json", stdin="Hello\\\nthere\n")
        self.assertEqual(len(joined.out.splitlines()), 1)


class ChatOnATerminal(CommandTest):
    def test_a_conversation(self):
        terminal = Terminal("chat", *GREEDY)
        terminal.wait_for(r"/help")
        terminal.wait_for_prompt()
        terminal.send("What is the capital of France?\r")
        terminal.wait_for("Paris")
        terminal.wait_for_prompt()
        terminal.send("\x04")
        self.assertEqual(terminal.exit_code(), 0)

    def test_interrupt_stops_the_answer_not_the_program(self):
        terminal = Terminal("chat", *GREEDY, *stop_biases())
        terminal.wait_for_prompt()
        for _ in range(2):
            terminal.send("Hello\r")
            terminal.wait_for(r"Hello\r\n\S*l")  # the line's echo, and the end of editing
            terminal.wait_for(r"\w+ \w+")
            terminal.send("\x03")
            terminal.wait_for(r"\[stopped\]")
            terminal.wait_for_prompt()
        terminal.send("/stats\r")
        terminal.wait_for("statistics are on")
        terminal.send("/quit\r")
        self.assertEqual(terminal.exit_code(), 0)

    def test_interrupt_before_the_first_word_stops_too(self):
        terminal = Terminal("chat", *GREEDY, *stop_biases())
        terminal.wait_for_prompt()
        terminal.send("Hello\r")
        terminal.wait_for(r"Hello\r\n\S*l")
        terminal.send("\x03")
        terminal.wait_for(r"\[stopped")
        terminal.wait_for_prompt()
        terminal.send("\x04")
        self.assertEqual(terminal.exit_code(), 0)

    def test_interrupt_at_the_prompt_drops_the_line(self):
        terminal = Terminal("chat", *GREEDY)
        terminal.wait_for_prompt()
        terminal.send("never sent\x03")
        terminal.wait_for("Ctrl-D")
        terminal.wait_for_prompt()
        terminal.send("/quit\r")
        self.assertEqual(terminal.exit_code(), 0)


class RunOnATerminal(CommandTest):
    def test_speed_is_shown_and_control_characters_are_not(self):
        terminal = Terminal("run", "Hello", *GREEDY)
        terminal.wait_for(r"tokens/s")
        self.assertEqual(terminal.exit_code(), 0)


if __name__ == "__main__":
    unittest.main()
