#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lay out the io goldens with their vocabulary in one of its two containers.

  make_vocab.py IO_DIR OUT_DIR json|gguf

Unpacks IO_DIR/vocab/tokenizer.json.gz into OUT_DIR/vocab/tokenizer.json, or writes the same vocabulary as a
GGUF file as converters do, and links the golden files beside it.
"""
import gzip
import json
import os
import struct
import sys

STRING, ARRAY, BOOL, U32, I32 = 8, 9, 7, 4, 5
USER_DEFINED = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def key(name, kind, payload):
    return text(name) + struct.pack("<I", kind) + payload


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def to_gguf(tok):
    model = tok["model"]
    tokens = [None] * len(model["vocab"])
    for piece, i in model["vocab"].items():
        tokens[i] = piece
    special = {t["id"]: t["content"] for t in tok["added_tokens"]}
    types = []
    for i, piece in enumerate(tokens):
        if i in special:
            types.append(4 if special[i] in USER_DEFINED else 3)
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            types.append(6)
        else:
            types.append(1)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    keys = [
        key("general.architecture", STRING, text("gemma4")),
        key("tokenizer.ggml.model", STRING, text("gemma4")),
        key("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(t) for t in tokens])),
        key("tokenizer.ggml.token_type", ARRAY, array(I32, [struct.pack("<i", t) for t in types])),
        key("tokenizer.ggml.merges", ARRAY, array(STRING, [text(m) for m in merges])),
        key("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", 2)),
        key("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 1)),
        key("tokenizer.ggml.add_bos_token", BOOL, b"\1"),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


def main():
    io, out, container = sys.argv[1:]
    os.makedirs(os.path.join(out, "vocab"), exist_ok=True)
    packed = gzip.open(os.path.join(io, "vocab", "tokenizer.json.gz")).read()
    if container == "json":
        with open(os.path.join(out, "vocab", "tokenizer.json"), "wb") as f:
            f.write(packed)
    else:
        with open(os.path.join(out, "vocab", "vocab.gguf"), "wb") as f:
            f.write(to_gguf(json.loads(packed)))
    for name in os.listdir(io):
        link = os.path.join(out, name)
        is_linked = name.endswith((".jsonl", ".safetensors")) or name in ("images", "audio", "video")
        if is_linked and not os.path.exists(link):
            os.symlink(os.path.abspath(os.path.join(io, name)), link)


if __name__ == "__main__":
    main()
