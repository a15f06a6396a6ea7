# SPDX-License-Identifier: Apache-2.0
"""Starts `carat serve` for a test, and stops it. The program, and the model, come from the
environment, as for tests/cli: CARAT, CARAT_MODEL."""
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

CARAT = os.environ["CARAT"]
DEMO = os.environ["CARAT_MODEL"]
DATA = os.environ.get("CARAT_TEST_DATA", "")
# Sanitizers make everything slower, and so do machines that do other things as well.
PATIENCE = 120


class Server:
    """with Server() as server: requests to server.url. args are more options of carat serve."""

    def __init__(self, args=(), env=None, model=DEMO, port=0):
        self.args = [CARAT, "serve", *([model] if model else []), "--port", str(port), *args]
        self.env = dict(os.environ, **(env or {}))
        # Nobody's own settings change what a test sees.
        self.env.setdefault("XDG_CONFIG_HOME", os.path.join(tempfile.gettempdir(), "carat-no-config"))
        if "CARAT_CACHE_DIR" not in (env or {}):
            self.env["CARAT_CACHE_DIR"] = "none"
        self.lines = []
        self.changed = threading.Condition()
        self.process = None
        self.url = self.host = None
        self.port = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=self.env)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        line = self.wait_for_log(r"carat: ready at |\"event\":\"ready\"")
        found = re.search(r"(https?)://([^\s\"]+):(\d+)", line)
        self.scheme, self.host, self.port = found.group(1), found.group(2), int(found.group(3))
        self.url = found.group(0)

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)  # the end
            self.changed.notify_all()

    @property
    def log(self):
        with self.changed:
            return "\n".join(line for line in self.lines if line is not None)

    def wait_for_log(self, pattern, seconds=PATIENCE, after=0):
        """The first line of the log, from line number `after` on, that has the pattern."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                for line in self.lines[after:]:
                    if line is None:
                        raise AssertionError(f"the server ended before {pattern!r}:\n{self.log_now()}")
                    if re.search(pattern, line):
                        return line
                if not self.changed.wait(end - time.monotonic()) and time.monotonic() >= end:
                    raise AssertionError(f"no {pattern!r} in the log:\n{self.log_now()}")

    def log_now(self):
        return "\n".join(line for line in self.lines if line is not None)

    def request(self, path, body=None, headers=None, method=None, timeout=PATIENCE):
        """Status, headers and bytes of an answer, whatever its status; body may be JSON to be."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode("utf-8")
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def json(self, path, body=None, status=200, **more):
        """The JSON of an answer that must have this status."""
        found, _, data = self.request(path, body, **more)
        assert found == status, f"{path}: expected {status}, found {found}: {data[:2000]!r}"
        return json.loads(data)

    def wait(self, seconds=PATIENCE):
        """The exit code, once the process has ended."""
        code = self.process.wait(seconds)
        self.reader.join(seconds)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def stop(self, seconds=PATIENCE):
        """Ends it as a supervisor would; it must have nothing to complain about."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after SIGTERM:\n{self.log}") from None
        self.process = None
        assert code == 0, f"exit code {code}:\n{self.log}"

    def kill(self):
        """Ends it as a crash or a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.wait()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        else:
            self.kill()
            print(f"log of the server:\n{self.log}")
