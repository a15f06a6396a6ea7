#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves 32 mixed clients for a while: every dialect, media, tools, conversations, streams, some of
which go away in the middle. In the first half the server is killed, or told to end, and started
again, its cache folder kept; the second half is one long life, whose memory must not grow. Every
answer that came whole must equal that of an only client. Exit code 1 when anything is not as it
should be. tools/soak.py CARAT --seconds 600"""
import argparse
import collections
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "server"))
import workload  # noqa: E402

READY_S = 120
REQUEST_S = 120  # a request that takes longer is stuck
STANDSTILL_S = 5
MEMORY_GROWTH = 0.01
WARM_UP = 0.5    # of the long life: tables that are bounded have filled up
LOOKS = 20       # at its memory


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Life:
    """One process of the server."""

    def __init__(self, args, port, log):
        self.log, self.port = log, port
        self.url = f"http://127.0.0.1:{port}"
        self.is_ending = False
        self.process = subprocess.Popen([*args, "--port", str(port)], stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log)
        end = time.monotonic() + READY_S
        while True:
            try:
                workload_get(self.url, "/health")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the server does not start, exit code {self.process.poll()}: "
                                     f"see {log.name}")
                time.sleep(0.02)

    def end(self, how):
        """The exit code."""
        self.is_ending = True
        self.process.send_signal(how)
        return self.process.wait(120)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0


def workload_get(url, path):
    import http.client
    import urllib.parse
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()


def metric(url, name):
    for line in workload_get(url, "/metrics").split("\n"):
        if line.startswith(name + "{"):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


# ------------------------------------------------------------------------------ what is asked

class Conversation:
    """Several turns; each sends back what was answered before, without its thoughts."""

    TURNS = [["Hello!", "What is 8 plus 2?", "What is the capital of France?", "Thank you!"],
             ["How is the weather in Oslo?", "What is 3 plus 4?", "And what is the opposite of dry?"],
             ["What is 285 + 613?", "What time is it in Lisbon?", "Say it backwards: box bear"],
             ["Who are you?", "What can you do?", "What color is the sky?", "Add 19 and 0."]]
    TOOLS = [{"type": "function", "function": {
        "name": name, "description": text, "parameters": {
            "type": "object", "required": list(fields), "properties": {
                f: {"type": kind} for f, kind in fields.items()}}}}
             for name, text, fields in (("get_weather", "Get the weather of a city.", {"city": "string"}),
                                        ("get_time", "Get the time in a city.", {"city": "string"}),
                                        ("add", "Add two numbers.", {"a": "integer", "b": "integer"}))]
    dialect = "conversation"

    def __init__(self, number):
        self.number = number
        self.key = f"conversation {number}"
        self.thinks = number % 2 == 1
        # What comes first differs, so that conversations do not only share one beginning.
        self.system = f"You are assistant number {number}. " + "Be short, be kind and be right. " * 6

    def __repr__(self):
        return self.key

    def run(self, url):
        messages = [{"role": "system", "content": self.system}]
        said = []
        for text in self.TURNS[self.number % len(self.TURNS)]:
            messages.append({"role": "user", "content": text})
            for _ in range(3):
                message = self.ask(url, messages)
                said.append([message.get("content"), message.get("reasoning_content"),
                             [[c["function"]["name"], c["function"]["arguments"]]
                              for c in message.get("tool_calls") or []]])
                messages.append({k: v for k, v in message.items() if k != "reasoning_content"})
                if not message.get("tool_calls"):
                    break
                messages += [{"role": "tool", "tool_call_id": c["id"], "content": "12"}
                             for c in message["tool_calls"]]
        return said

    def ask(self, url, messages):
        body = {"model": "carat", "messages": messages, "temperature": 0, "tools": self.TOOLS,
                "max_tokens": 200, **({"reasoning_effort": "high"} if self.thinks else {})}
        return json.loads(workload.fetch(url, workload.Ask(
            "chat", "/v1/chat/completions", body, False), timeout=REQUEST_S))["choices"][0]["message"]


def run(url, ask, cancel=None):
    if isinstance(ask, Conversation):
        return ask.run(url)
    return workload.run(url, ask, cancel, timeout=REQUEST_S)


# ------------------------------------------------------------------------------ the soak

class Soak:
    def __init__(self, options):
        self.options = options
        self.rng = random.Random(options.seed)
        self.asks = (workload.make_asks(seed=options.seed, n=options.asks)
                     + [Conversation(i) for i in range(options.conversations)])
        self.folder = tempfile.mkdtemp(prefix="carat-soak-")
        self.log = open(os.path.join(self.folder, "server.log"), "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.violations = []
        self.counts = collections.Counter()
        self.seconds = []  # of answered requests
        self.twins = {}
        self.life = None
        self.n_lives = 0   # begun; a request that saw two was cut
        self.is_over = False
        self.stood_still = 0.0 # when the machine did so last
        self.may_ask = threading.Event()
        self.may_ask.set()

    def args(self, *more):
        kept = [] if "--cache-dir" in more else ["--cache-dir", "none"]
        return [self.options.carat, "serve", self.options.model, "--quiet", *kept, *more]

    def watch_clock(self):
        """A machine that sleeps, or a debugger, stops everybody: then requests run out of time."""
        before = time.monotonic()
        while not self.is_over:
            time.sleep(0.2)
            now = time.monotonic()
            if now - before > STANDSTILL_S:
                with self.lock:
                    self.stood_still = now
                    self.counts["standstills of the whole machine"] += 1
            before = now

    def violation(self, text):
        with self.lock:
            self.violations.append(text)
        print(f"VIOLATION {text}", flush=True)

    def find_twins(self):
        life = Life(self.args("--parallel", "1"), free_port(), self.log)
        for ask in self.asks:
            self.twins[ask.key] = run(life.url, ask)
        code = life.end(signal.SIGTERM)
        if code != 0:
            self.violation(f"exit code {code} after the twins")

    def client(self, number):
        rng = random.Random(self.options.seed * 1000 + number)
        while not self.is_over:
            self.may_ask.wait()
            ask = rng.choice(self.asks)
            cancel = rng.choice([0, 1, 200, 400, 1000]) if rng.random() < 0.15 else None
            cancel = None if isinstance(ask, Conversation) else cancel
            with self.lock:
                life, number_before = self.life, self.n_lives
            begin = time.monotonic()
            try:
                found = run(life.url, ask, cancel)
            except workload.Cancelled:
                self.counts["cancelled"] += 1
            except workload.Refused as refused:
                self.refused(ask, life, refused)
                time.sleep(0.05)
            except workload.Broken as broken:
                self.broken(ask, life, number_before, begin, broken)
                time.sleep(0.05)
            else:
                self.whole(ask, found, time.monotonic() - begin)

    def whole(self, ask, found, seconds):
        with self.lock:
            self.counts["whole"] += 1
            self.counts[f"whole, {ask.dialect}"] += 1
            self.seconds.append(seconds)
        if found != self.twins[ask.key]:
            self.violation(f"another answer than alone: {ask}\n  alone {self.twins[ask.key]}\n  now   {found}")

    def refused(self, ask, life, refused):
        """429 is what a full queue says; 503 may come from a server that was told to end."""
        if refused.status == 429 and refused.headers["Retry-After"]:
            self.counts["refused, queue full"] += 1
        elif refused.status == 503 and life.is_ending:
            self.counts["refused, ending"] += 1
        else:
            self.violation(f"{ask}: {refused}")

    def broken(self, ask, life, number_before, begin, broken):
        """A connection may break when the server was killed, and not be taken while it is away."""
        time.sleep(0.5) # the clock is looked at first
        with self.lock:
            was_cut = life.is_ending or self.n_lives != number_before
            stood_still = self.stood_still >= begin
        if was_cut:
            self.counts["cut by an end of the server"] += 1
        elif stood_still:
            self.counts["out of time, the machine stood still"] += 1
        else:
            self.violation(f"{ask}: {broken}")

    def start(self):
        args = self.args("--parallel", str(self.options.parallel), "--queue", "24",
                         "--cache-dir", os.path.join(self.folder, "cache"), "--cache-size", "0.2")
        life = Life(args, self.port, self.log)
        with self.lock:
            self.life = life
            self.n_lives += 1

    def restart(self, how):
        code = self.life.end(how)
        expected = 0 if how == signal.SIGTERM else -how
        if code != expected:
            self.violation(f"exit code {code} after {how.name}, expected {expected}")
        self.counts[f"ended by {how.name}"] += 1
        self.start()

    def check_alive(self):
        if self.life.process.poll() is not None:
            self.violation(f"the server ended by itself, exit code {self.life.process.poll()}")
            self.start()

    def hard_half(self, seconds):
        end = time.monotonic() + seconds
        disk_hits = 0
        while time.monotonic() < end:
            pause = min(self.rng.uniform(0.5, seconds / 5), max(end - time.monotonic(), 0))
            stop = time.monotonic() + pause
            while time.monotonic() < stop:
                self.check_alive()
                time.sleep(0.05)
            disk_hits += metric(self.life.url, "carat_cache_disk_hits_total")
            self.restart(self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        if disk_hits == 0:
            self.violation("nothing was ever restored from the cache's folder")
        self.counts["restored from disk"] += int(disk_hits)

    def at_rest(self):
        """What the server holds when nobody asks for anything: requests on their way are no growth."""
        self.may_ask.clear()
        end = time.monotonic() + REQUEST_S
        while self.is_busy():
            if time.monotonic() > end:
                self.violation("without requests something is still running or waiting")
                break
            time.sleep(0.05)
        time.sleep(0.2)
        size = self.life.resident()
        self.may_ask.set()
        return size

    def long_half(self, seconds):
        begin = time.monotonic()
        sizes = []
        for i in range(1, LOOKS + 1):
            while time.monotonic() - begin < seconds * i / LOOKS:
                self.check_alive()
                time.sleep(0.05)
            sizes.append(self.at_rest())
        kept = sizes[int(LOOKS * WARM_UP):]
        third = len(kept) // 3
        before = sum(kept[:third]) / third
        after = sum(kept[-third:]) / third
        self.memory = (before, after)
        if after > before * (1 + MEMORY_GROWTH):
            self.violation(f"memory grew by {100 * (after / before - 1):.2f} % after warm-up: "
                           + ", ".join(f"{size / 1e6:.2f}" for size in sizes) + " MB")

    def is_busy(self):
        return any(metric(self.life.url, n) for n in ("carat_requests_running", "carat_requests_waiting"))

    def check_end(self):
        self.at_rest()
        for ask in self.asks[:5]:
            if run(self.life.url, ask) != self.twins[ask.key]:
                self.violation(f"another answer than alone, at the end: {ask}")

    def main(self):
        o = self.options
        print(f"soak: {len(self.asks)} kinds of requests, {o.clients} clients, {o.seconds:.0f} s, "
              f"seed {o.seed}, log in {self.log.name}", flush=True)
        self.find_twins()
        self.port = free_port()
        self.start()
        begin = time.monotonic()
        clients = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(o.clients)]
        for c in [threading.Thread(target=self.watch_clock, daemon=True), *clients]:
            c.start()
        self.hard_half(o.seconds / 2)
        self.long_half(o.seconds / 2)
        self.is_over = True
        for c in clients:
            c.join(2 * REQUEST_S)
            if c.is_alive():
                self.violation("a client waits for ever")
        seconds = time.monotonic() - begin
        self.check_end()
        tokens = metric(self.life.url, "carat_answer_tokens_total")
        cached = metric(self.life.url, "carat_cached_tokens_total")
        prompts = metric(self.life.url, "carat_prompt_tokens_total")
        code = self.life.end(signal.SIGTERM)
        if code != 0:
            self.violation(f"exit code {code} at the end")
        self.report(seconds, tokens, cached, prompts)
        self.log.close()
        if not self.violations:
            shutil.rmtree(self.folder)
        return 1 if self.violations else 0

    def report(self, seconds, tokens, cached, prompts):
        for name in sorted(self.counts):
            print(f"  {self.counts[name]:7d}  {name}")
        times = sorted(self.seconds) or [0]
        print(f"  {len(times) / seconds:.1f} answers/s; half of them within {times[len(times) // 2]:.2f} s, "
              f"99 of 100 within {times[int(len(times) * 0.99)]:.2f} s, all within {times[-1]:.2f} s")
        print(f"  the long life: {tokens:.0f} tokens sampled, {prompts:.0f} prompted, of these {cached:.0f} "
              f"reused; memory {self.memory[0] / 1e6:.2f} MB after warm-up, {self.memory[1] / 1e6:.2f} MB at "
              f"the end ({100 * (self.memory[1] / self.memory[0] - 1):+.2f} %)")
        print(f"soak: {len(self.violations)} violations" if self.violations else "soak: ok")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("carat")
    parser.add_argument("--model", default=os.path.join(ROOT, "demo", "carat-demo.gguf"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--asks", type=int, default=None, help="kinds of requests (all)")
    parser.add_argument("--conversations", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    soak = Soak(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return soak.main()
    finally:
        if soak.life and soak.life.process.poll() is None:
            soak.life.process.kill()


if __name__ == "__main__":
    sys.exit(main())
