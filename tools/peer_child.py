#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures llama.cpp in a process of its own, for check_peers.py: through the low-level functions of
llama-cpp-python, so that nothing but llama.cpp's own work lies between two looks at the clock.

  peer_child.py JSON      what to do, as an object; the answer is a JSON object on standard output

Depth is reached as carat's bench does it, without evaluating: up to 512 real tokens are evaluated, the
sequence's state is taken, its rows are repeated to the length that is wanted, with ascending positions, and
that is given back to llama.cpp, which checks and stores it like any saved state."""
import ctypes
import json
import struct
import sys
import time

import llama_cpp as lib

UBATCH = 512     # rows of a prompt that are evaluated together, as in carat
SEED_TOKENS = 512  # real ones, whose rows are repeated
GGML_TYPES = {"f16": 1, "q8_0": 8}


class Failed(Exception):
    pass


complaints = []


@lib.llama_log_callback
def keep_errors(level, text, _user):
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        complaints.append(text.decode("utf-8", "replace").strip())


def status_bytes(name):
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise Failed(f"/proc/self/status: no {name}")


def token_source(n_vocab):
    """Ordinary tokens all over the vocabulary, as carat's bench takes them."""
    state = 1
    lowest = min(1000, n_vocab // 4)  # control tokens stand at the beginning
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield lowest + (state >> 33) % (n_vocab - lowest)


class Block:
    """The state of one of a sequence's caches: cells, then rows of keys and of values by layer."""

    def __init__(self, data, at, has_values):
        self.n_streams, n_cells = struct.unpack_from("<II", data, at)
        if self.n_streams != 1 or n_cells == 0:
            raise Failed("the peer's saved state has another form than expected")
        at += 8
        self.n_cells = n_cells
        for i in range(n_cells):
            # In the order of the cells, which in a sliding cache is not that of the positions.
            position, n_sequences, sequence = struct.unpack_from("<iIi", data, at + 12 * i)
            if not 0 <= position < SEED_TOKENS or n_sequences != 1 or sequence != 0:
                raise Failed("the peer's saved state has another form than expected")
        at += 12 * n_cells
        self.is_transposed, self.n_layers = struct.unpack_from("<II", data, at)
        if self.is_transposed:
            raise Failed("the peer's values are stored transposed: flash attention is off")
        at += 8
        self.parts = []  # (type, bytes of a row, rows)
        for _ in range(self.n_layers * (2 if has_values else 1)):
            kind, row = struct.unpack_from("<iQ", data, at)
            at += 12
            if at + row * n_cells > len(data):
                raise Failed("the peer's saved state is cut")
            self.parts.append((kind, row, bytes(data[at:at + row * n_cells])))
            at += row * n_cells
        self.end = at

    def repeated(self, first, n):
        """The same for positions first .. first + n - 1."""
        yield struct.pack("<II", 1, n)
        cells = bytearray(12 * n)
        for i in range(n):
            struct.pack_into("<iIi", cells, 12 * i, first + i, 1, 0)
        yield cells
        yield struct.pack("<II", 0, self.n_layers)
        for kind, row, rows in self.parts:
            yield struct.pack("<iQ", kind, row)
            yield rows * (n // self.n_cells)
            yield rows[:row * (n % self.n_cells)]


def parse_state(data):
    """The caches in a state: that of the full layers, then that of the sliding ones. Where a cache keeps no
    values it does not say so: the form is the one that uses up all bytes."""
    for choice in ((True, True), (False, True), (True, False), (False, False)):
        blocks, at = [], 8  # behind a magic number and the sequence
        try:
            for has_values in choice:
                if at < len(data):
                    blocks.append(Block(data, at, has_values))
                    at = blocks[-1].end
        except (Failed, struct.error):
            continue
        if at == len(data):
            return blocks
    raise Failed("the peer's saved state has another form than expected")


class Peer:
    def __init__(self, spec):
        lib.llama_log_set(keep_errors, None)
        self.n_rows = spec.get("rows", 1)
        lib.llama_backend_init()
        self.python_bytes = status_bytes("VmRSS")
        started = time.perf_counter()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = spec["repack"]
        if not spec["mmap"]:
            params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        self.model = lib.llama_model_load_from_file(spec["model"].encode(), params)
        if not self.model:
            raise Failed("the peer cannot load the model")
        self.context = self.new_context(spec)
        self.load_s = time.perf_counter() - started
        self.started = started
        self.memory = lib.llama_get_memory(self.context)
        vocab = lib.llama_model_get_vocab(self.model)
        self.tokens = token_source(lib.llama_vocab_n_tokens(vocab))
        self.window = lib.llama_model_n_swa(self.model)
        self.batch = lib.llama_batch_init(max(UBATCH, self.n_rows), 0, 1)
        self.states = {}

    def new_context(self, spec):
        params = lib.llama_context_default_params()
        params.n_ctx = spec["context"]
        params.n_batch = params.n_ubatch = UBATCH
        params.n_seq_max = self.n_rows
        params.n_outputs_max = self.n_rows
        params.n_threads = params.n_threads_batch = spec["threads"]
        params.flash_attn_type = 1  # enabled
        params.type_k = params.type_v = GGML_TYPES[spec["kv_type"]]
        params.kv_unified = True
        params.swa_full = False  # by default the sliding layers keep, and look at, the whole context
        context = lib.llama_init_from_model(self.model, params)
        if not context:
            raise Failed("the peer cannot make a context")
        return context

    def decode(self, rows):
        """rows: (position, sequence, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (position, sequence, has_logits) in enumerate(rows):
            batch.token[i] = next(self.tokens)
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = has_logits
        status = lib.llama_decode(self.context, batch)
        if status:
            raise Failed(f"the peer cannot decode: status {status}")
        lib.llama_get_logits_ith(self.context, -1)  # waits until they are there

    def clear(self):
        lib.llama_memory_clear(self.memory, False)

    def prefill(self, n):
        self.clear()
        started = time.perf_counter()
        for begin in range(0, n, UBATCH):
            end = min(n, begin + UBATCH)
            self.decode([(i, 0, i == n - 1) for i in range(begin, end - 1)] + [(end - 1, 0, True)])
        return time.perf_counter() - started

    def state_at(self, depth):
        if depth not in self.states:
            self.prefill(min(depth, SEED_TOKENS))
            size = lib.llama_state_seq_get_size(self.context, 0)
            data = (ctypes.c_uint8 * size)()
            if lib.llama_state_seq_get_data(self.context, data, size, 0) != size:
                raise Failed("the peer cannot save its state")
            data = memoryview(data).cast("B")
            parts = [bytes(data[:8])]
            for i, block in enumerate(parse_state(data)):
                n = min(depth, self.window) if i == 1 and self.window > 0 else depth
                parts += block.repeated(depth - n, n)
            self.states = {depth: bytearray().join(parts)}  # one at a time: they are large
        return self.states[depth]

    def reach(self, depth):
        if depth == 0:
            self.prefill(1)
            return 1
        state = self.state_at(depth)
        self.clear()
        size = len(state)
        if lib.llama_state_seq_set_data(self.context, (ctypes.c_uint8 * size).from_buffer(state), size, 0) == 0:
            raise Failed("the peer does not take the state")
        if lib.llama_memory_seq_pos_max(self.memory, 0) != depth - 1:
            raise Failed("the peer did not take all of the state")
        return depth

    def decode_at(self, depth, n):
        at = self.reach(depth)
        started = time.perf_counter()
        for i in range(n):
            self.decode([(at + i, 0, True)])
        return time.perf_counter() - started

    def decode_rows(self, n_rows, n):
        self.clear()
        self.decode([(0, row, True) for row in range(n_rows)])
        started = time.perf_counter()
        for i in range(n):
            self.decode([(1 + i, row, True) for row in range(n_rows)])
        return time.perf_counter() - started


def run(spec):
    """Each job after a short one that does not count; a second prompt needs none."""
    peer = Peer(spec)
    out = {"load_s": peer.load_s, "jobs": []}
    peer.prefill(min(10, spec["context"]))
    out["first_token_s"] = time.perf_counter() - peer.started
    for i, job in enumerate(spec["jobs"]):
        if job["what"] == "prefill":
            if i == 0 and not spec["is_for_memory"]:
                peer.prefill(min(job["tokens"], UBATCH))
            speed = job["tokens"] / peer.prefill(job["tokens"])
        elif job["what"] == "decode":
            peer.decode_at(job["depth"], min(4, job["tokens"]))
            speed = job["tokens"] / peer.decode_at(job["depth"], job["tokens"])
        else:
            peer.decode_rows(job["rows"], min(4, job["tokens"]))
            speed = job["rows"] * job["tokens"] / peer.decode_rows(job["rows"], job["tokens"])
        out["jobs"].append(speed)
    out["resident_peak"] = status_bytes("VmHWM") - peer.python_bytes
    out["version"] = lib.__version__
    out["system"] = lib.llama_print_system_info().decode("utf-8", "replace").strip(" |\n")
    return out


def main():
    try:
        answer = run(json.loads(sys.argv[1]))
    except Failed as failure:
        answer = {"error": "; ".join([str(failure)] + complaints[-3:])}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
