#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/quant_rows.safetensors: blocks of every element type and the values in them.

    make_quant_rows.py FIXTURE OUT      (needs numpy, gguf, safetensors)

FIXTURE is the full `quant` fixture, with one GGUF per type. For each type T:
  T.golden.*   a row of a tiny model's weights as recorded there
  T.random.*   random blocks, dequantized by the reference (gguf's Python dequantiser)
  Q8_0.pack.*  values and what the reference quantiser makes of them
"""
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, quants
from safetensors.numpy import load_file, save_file

TYPES = ("F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4 NVFP4").split()
TENSOR = "blk.0.attn_q.weight"
N_RANDOM = 512


def random_blocks(rng, kind):
    """Random bytes whose values are all finite."""
    values_per_block, block_size = gguf.GGML_QUANT_SIZES[kind]
    blocks = []
    while len(blocks) < N_RANDOM // values_per_block:
        raw = rng.integers(0, 256, size=(1, block_size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            if np.isfinite(quants.dequantize(raw, kind).astype(np.float32)).all():
                blocks.append(raw[0])
    return np.concatenate(blocks)


def main():
    fixture, out = Path(sys.argv[1]), Path(sys.argv[2])
    rng = np.random.default_rng(20260701)
    golden = load_file(fixture / "golden.safetensors")
    rows = {}
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        raw = random_blocks(rng, kind)
        rows[f"{name}.random.blocks"] = raw
        rows[f"{name}.random.values"] = quants.dequantize(raw[None], kind).astype(np.float32).ravel()
        path = fixture / f"model-{name}.gguf"
        if path.exists():
            tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == TENSOR)
            assert tensor.tensor_type == kind
            rows[f"{name}.golden.blocks"] = np.ascontiguousarray(tensor.data[0])
            rows[f"{name}.golden.values"] = golden[f"out.{name}.rows.{TENSOR}"][0].copy()
    values = rng.standard_normal(N_RANDOM).astype(np.float32)
    values[64:96] = 0
    rows["Q8_0.pack.values"] = values
    rows["Q8_0.pack.blocks"] = quants.quantize(values[None], GGMLQuantizationType.Q8_0).ravel()
    save_file(rows, out)


main()
