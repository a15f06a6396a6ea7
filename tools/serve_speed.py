#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast carat serve answers 1, 4 and 8 streams at once: each has a prompt of its own and an answer
of a fixed length. Prints a table; --json for machines. tools/serve_speed.py CARAT [MODEL]"""
import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENDS = "<turn|><eos><|tool_response>"


class Server:
    def __init__(self, options):
        args = [options.carat, "serve", options.model, "--port", "0", "--quiet", "--no-loop-guard", "--cache-dir", "none",
                "--parallel", str(max(options.streams)), "--context", str(options.context)]
        if options.threads:
            args += ["--threads", str(options.threads)]
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        self.says = []
        for line in self.process.stderr:
            self.says.append(line.rstrip())
            found = re.search(r"ready at http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return
        sys.exit("the server does not start:\n" + "\n".join(self.says))

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmHWM:\s*(\d+)", f.read()).group(1)) * 1024


class Stream(threading.Thread):
    """One answer: when its first and last tokens came."""

    def __init__(self, server, prompt, n_tokens, bias):
        super().__init__(daemon=True)
        self.server = server
        self.body = {"model": "carat", "stream": True, "temperature": 0, "max_tokens": n_tokens,
                     "logit_bias": bias, "stream_options": {"include_usage": True},
                     "messages": [{"role": "user", "content": prompt}]}
        self.usage = None

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=7200)
        self.begun = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(self.body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"status {answer.status}: {answer.read()[:1000]}")
        for line in answer:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                self.usage = chunk.get("usage") or self.usage
                self.timings = chunk.get("timings")
        self.ended = time.monotonic()
        connection.close()


def prompt_of(number, n_words):
    """Words that no other stream has, so that nothing is taken from the cache."""
    return " ".join(f"{(i * 7919 + number * 104729) % 99991}" for i in range(n_words)) + ". Tell a story."


def measure(server, options, n_streams, number, bias):
    streams = [Stream(server, prompt_of(number + i, options.words), options.tokens, bias)
               for i in range(n_streams)]
    begin = time.monotonic()
    for s in streams:
        s.start()
    for s in streams:
        s.join()
    if not all(s.usage for s in streams):
        sys.exit("a stream broke")
    # The part in which every stream writes: from the last first token to the first end.
    firsts = [s.begun - begin + (s.timings["queue_ms"] + s.timings["prompt_ms"]) / 1000 for s in streams]
    ends = [s.ended - begin for s in streams]
    n = sum(s.usage["completion_tokens"] for s in streams)
    n_prompt = sum(s.usage["prompt_tokens"] - s.usage["prompt_tokens_details"]["cached_tokens"] for s in streams)
    per_stream = [s.timings["predicted_per_second"] for s in streams]
    return {"streams": n_streams, "prompt_tokens": n_prompt, "answer_tokens": n, "seconds": max(ends),
            "read_per_second": n_prompt / max(firsts), "first_token_s": sum(firsts) / n_streams,
            "first_token_max_s": max(firsts), "answer_per_second": n / (max(ends) - min(firsts)),
            "each_per_second": sum(per_stream) / n_streams, "all_per_second": (n + n_prompt) / max(ends)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("carat")
    parser.add_argument("model", nargs="?", default=os.path.join(ROOT, "demo", "carat-demo.gguf"))
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--words", type=int, default=24, help="of each prompt; about five tokens a word")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)) # so that the server is stopped, too
    found = subprocess.run([options.carat, "tokenize", options.model, ENDS, "--special"],
                           capture_output=True, check=True)
    bias = {token.decode(): -100 for token in found.stdout.split()}
    server = Server(options)
    rows = []
    try:
        measure(server, options, 1, 0, bias)  # the first of all touches memory
        number = 1
        for n in options.streams:
            rows.append(measure(server, options, n, number, bias))
            number += n
        memory = server.memory()
    finally:
        server.stop()
    if options.json:
        print(json.dumps({"memory": memory, "rows": rows}))
        return
    print("\n".join(server.says))
    print(f"{'streams':>8}{'prompts':>9}{'first token':>13}{'latest':>9}{'answers':>11}{'each':>9}{'whole':>9}")
    print(f"{'':>8}{'t/s':>9}{'s':>13}{'s':>9}{'t/s':>11}{'t/s':>9}{'s':>9}")
    for r in rows:
        print(f"{r['streams']:8d}{r['read_per_second']:9.1f}{r['first_token_s']:13.2f}"
              f"{r['first_token_max_s']:9.2f}{r['answer_per_second']:11.2f}{r['each_per_second']:9.2f}"
              f"{r['seconds']:9.2f}")
    print(f"memory at most {memory / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
