# SPDX-License-Identifier: Apache-2.0
"""What the tests of the commands share: running the program as a user would."""
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import time
import unittest

CARAT = os.environ["CARAT"]
DEMO = os.environ["CARAT_MODEL"]
DATA = os.environ["CARAT_TEST_DATA"]
COMMANDS = ["run", "chat", "serve", "pull", "quantize", "convert", "inspect", "tokenize", "verify", "batch", "eval", "bench", "help", "completion"]


class Result:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout.decode("utf-8") if done.stdout is not None else None
        self.err = done.stderr.decode("utf-8") if done.stderr is not None else None


def carat(*args, stdin=None, stdout=subprocess.PIPE, env=None, timeout=120):
    """Runs carat; stdin is text to pipe in, or None for no input at all."""
    source = {"input": stdin.encode("utf-8")} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run([CARAT, *args], stdout=stdout, stderr=subprocess.PIPE, timeout=timeout,
                          env=dict(os.environ, **(env or {})), **source)
    return Result(done)


class CommandTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, content=None):
        """A path in the test's own folder; with content, a file that holds it."""
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb") as f:
                f.write(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def assert_fails(self, result, code, *words):
        """It failed as it should: nothing on stdout, one line on stderr that says what."""
        self.assertEqual(result.code, code, result.err)
        self.assertEqual(result.out, "")
        lines = result.err.splitlines()
        self.assertEqual(len(lines), 1, result.err)
        self.assertTrue(lines[0].startswith("carat: "), result.err)
        for word in words:
            self.assertIn(word, result.err)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            # libedit never frees the names of functions that are added to it.
            os.environ["LSAN_OPTIONS"] = "detect_leaks=0"
            os.execv(CARAT, [CARAT, *args])
        self.seen = ""

    def wait_for(self, pattern, seconds=30):
        """Reads until the pattern comes; what came before it is forgotten."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
            except OSError:
                raise AssertionError(f"ended before {pattern!r}: {self.seen!r}") from None
        before = self.seen[:found.end()]
        self.seen = self.seen[found.end():]
        return before

    def wait_for_prompt(self):
        self.wait_for(r"\n(\x1b\[\?2004h)?> ")  # the sequence asks to mark what is pasted
        time.sleep(0.2)  # the editor takes over the keyboard just after it has shown the prompt

    def send(self, text):
        os.write(self.fd, text.encode("utf-8"))

    def exit_code(self):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                code = os.waitstatus_to_exitcode(status)
                return code if code == 0 else f"{code}: {self.seen}"
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"still running: {self.seen!r}")


def stop_biases():
    """Options that forbid every token that ends an answer."""
    ids = carat("tokenize", "--special", "<turn|><eos><|tool_response><|tool_call>").out.split()
    return [word for id in ids for word in ("--logit-bias", f"{id}=-inf")]


def gguf_string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def make_gguf(architecture, n_values=64):
    """A small, right GGUF file of some architecture with one float tensor."""
    metadata = gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string(architecture)
    metadata += gguf_string(f"{architecture}.block_count") + struct.pack("<II", 4, 1)
    tensor = gguf_string("token_embd.weight") + struct.pack("<IQIQ", 1, n_values, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + metadata + tensor
    return head + bytes(-len(head) % 32) + bytes(4 * n_values)
