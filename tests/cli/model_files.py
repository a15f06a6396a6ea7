# SPDX-License-Identifier: Apache-2.0
"""Model files as the tests look at them, and running the jobs that make them."""
import json
import struct

from common import CommandTest, carat

QUESTION = "What is the capital of France?"
TYPE_NAMES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
              13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16"}
BLOCKS = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24),
          "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
          "IQ4_NL": (32, 18), "IQ4_XS": (256, 136)}


class Gguf:
    """Just enough of the format: keys, and tensors as (type, dims, bytes)."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 0
        assert self.data[:4] == b"GGUF" and self.read("<4xI") == 3
        n_tensors, n_keys = self.read("<Q"), self.read("<Q")
        self.keys = {}
        for _ in range(n_keys):
            name = self.string().decode()
            self.keys[name] = self.value(self.read("<I"))
        infos = []
        for _ in range(n_tensors):
            name = self.string().decode()
            dims = [self.read("<Q") for _ in range(self.read("<I"))]
            infos.append((name, dims, TYPE_NAMES[self.read("<I")], self.read("<Q")))
        start = (self.at + 31) // 32 * 32
        self.tensors = {}
        for name, dims, kind, offset in infos:
            values, size = BLOCKS[kind]
            n = size * (dims[0] // values)
            for d in dims[1:]:
                n *= d
            self.tensors[name] = (kind, dims, self.data[start + offset:start + offset + n])

    def read(self, form):
        size = struct.calcsize(form)
        value = struct.unpack(form, self.data[self.at:self.at + size])[0]
        self.at += size
        return value

    def string(self):
        size = self.read("<Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def value(self, kind):
        if kind == 8:
            return self.string().decode(errors="replace")
        if kind == 9:
            element, n = self.read("<I"), self.read("<Q")
            return [self.value(element) for _ in range(n)]
        return self.read("<" + "BbHhIif?xxQqd"[kind])

    def types(self):
        return {name: kind for name, (kind, _, _) in self.tensors.items()}


def safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
            for name, t in head.items()}


def content(path):
    with open(path, "rb") as f:
        return f.read()


class JobTest(CommandTest):
    def make(self, *words, code=0):
        done = carat(*words, timeout=300)
        self.assertEqual(done.code, code, done.err)
        return done

    def answer(self, model):
        done = carat("run", model, QUESTION, "--quiet", "--temperature", "0")
        self.assertEqual(done.code, 0, done.err)
        return done.out.strip()
