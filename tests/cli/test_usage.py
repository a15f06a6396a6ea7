# SPDX-License-Identifier: Apache-2.0
"""Help, exit codes, and what is said of a wrong command line."""
import json
import os
import subprocess
import unittest

from common import CARAT, COMMANDS, CommandTest, carat


class Help(CommandTest):
    def test_every_command_explains_itself(self):
        for name in COMMANDS:
            with self.subTest(name):
                result = carat(name, "--help")
                self.assertEqual((result.code, result.err), (0, ""))
                self.assertIn(f"Usage: carat {name}", result.out)
                self.assertIn("Examples:", result.out)
                self.assertEqual(carat("help", name).out, result.out)
                self.assertLessEqual(max(map(len, result.out.splitlines())), 100)

    def test_program_lists_all_commands(self):
        for words in (["--help"], ["help"], ["-h"]):
            result = carat(*words)
            self.assertEqual(result.code, 0)
            for name in COMMANDS:
                self.assertRegex(result.out, rf"(?m)^  {name}\s")

    def test_without_a_command_help_is_an_error(self):
        result = carat()
        self.assertEqual((result.code, result.out), (2, ""))
        self.assertIn("Usage:", result.err)

    def test_version(self):
        self.assertRegex(carat("--version").out, r"^carat \d+\.\d+\.\d+\n$")

    def test_manual_pages(self):
        self.assertIn(".TH CARAT 1", carat("help", "--man").out)
        for name in COMMANDS:
            self.assertIn(".SH SYNOPSIS", carat("help", "--man", name).out)

    def test_completion_is_valid_bash_and_knows_all(self):
        script = carat("completion", "bash").out
        subprocess.run(["bash", "-n"], input=script.encode(), check=True)
        ask = script + '\nCOMP_WORDS=(carat run --tem) COMP_CWORD=2; _carat; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash"], input=ask.encode(), stdout=subprocess.PIPE, check=True)
        self.assertEqual(set(done.stdout.split()), {b"--temperature", b"--template"})

    def test_completion_for_zsh_names_all_commands(self):
        script = carat("completion", "zsh").out
        for name in COMMANDS:
            self.assertIn(f"'{name}:", script)
        self.assertEqual(carat("completion", "fish").code, 2)


class Usage(CommandTest):
    def test_wrong_words_are_usage_errors_with_a_hint(self):
        cases = [
            (["rnu"], "'run'"),
            (["frobnicate"], "unknown command"),
            (["help", "tokenise"], "'tokenize'"),
            (["run", "--temprature", "1", "x"], "'--temperature'"),
            (["run", "--temperature", "warm", "x"], "'warm'"),
            (["run", "--temperature"], "needs a value"),
            (["run", "--top-k", "-1", "x"], "'-1'"),
            (["run", "--top-p", "1.5", "x"], "from 0 to 1"),
            (["run", "--think=yes", "x"], "takes no value"),
            (["run", "-t", "x"], "'-t'"),
            (["run", "--kv-type", "q3", "x"], "f16, f32, q8_0"),
            (["run", "--logprobs", "3", "x"], "--json"),
            (["run", "--no-template", "--system", "x", "y"], "--no-template"),
            (["run", "a", "b", "c"], "'c'"),
            (["run", "no-such-model", "a prompt"], "quotes"),
            (["run"], "no prompt"),
            (["verify"], "no folder"),
            (["bench", "--prefill", "1,,2"], "'1,,2'"),
            (["tokenize", "--ids", "1", "text"], "--ids"),
            (["completion"], "bash or zsh"),
        ]
        for words, said in cases:
            with self.subTest(words):
                self.assert_fails(carat(*words), 2, said)

    def test_bad_logit_bias_is_an_error(self):
        for bias in ("5", "x=1", "99999999=1", "5=", "5=nan", "5=1x"):
            with self.subTest(bias):
                self.assert_fails(carat("run", "--logit-bias", bias, "hi"), 1, "--logit-bias")


class Writing(CommandTest):
    WAYS = [["help"], ["run", "Hello", "--max-tokens", "4", "--temperature", "0"],
            ["run", "Hello", "--max-tokens", "4", "--json"], ["inspect"], ["inspect", "--json"],
            ["tokenize", "Hello"], ["bench", "--prefill", "4", "--decode", "2", "--runs", "1"],
            ["completion", "bash"]]

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_full_disk_is_a_failure(self):
        for words in self.WAYS:
            with self.subTest(words), open("/dev/full", "wb") as full:
                result = carat(*words, stdout=full)
                self.assertEqual(result.code, 1)
                self.assertRegex(result.err, r"(?m)^carat: cannot write to standard output: ")

    def test_closed_pipe_ends_quietly(self):
        for words in self.WAYS:
            with self.subTest(words):
                read_end, write_end = os.pipe()
                os.close(read_end)
                done = subprocess.run([CARAT, *words], stdin=subprocess.DEVNULL, stdout=write_end,
                                      stderr=subprocess.PIPE, timeout=60)
                os.close(write_end)
                self.assertEqual(done.stderr, b"")
                self.assertNotEqual(done.returncode, 0)

    def test_closed_pipe_is_quiet_when_the_signal_is_ignored(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([CARAT, "help"], stdin=subprocess.DEVNULL, stdout=write_end,
                              stderr=subprocess.PIPE, restore_signals=False, timeout=60)
        os.close(write_end)
        self.assertEqual((done.returncode, done.stderr), (1, b""))

    def test_json_is_json(self):
        for words in (["inspect", "--json"], ["inspect", "--json", "--tensors"],
                      ["tokenize", "--json", "a\u2028\"b\\"], ["run", "Hi", "--json"],
                      ["bench", "--json", "--prefill", "4", "--decode", "2", "--runs", "1"]):
            with self.subTest(words):
                self.assertIsInstance(json.loads(carat(*words).out), dict)


if __name__ == "__main__":
    unittest.main()
