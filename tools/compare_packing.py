#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs the same rows with carat and with llama.cpp and prints the squared errors, one table per source.

  compare_packing.py [--pack build/tests/formats/pack_rows] [--only Q4_K,Q6_K] [MODEL ...] [--record OUT]

Each type is packed plainly and with an importance per column; the error is then that of the plain sum of
squares, or of the sum weighted with the importance. A figure is carat's error divided by llama.cpp's: at
most 1 is wanted. Blocks of both are read back by gguf-py, which is neither's code. The sources are rows
made here, by distribution, and the matrices of each MODEL: a safetensors file, or a GGUF in F32, F16,
BF16 or Q8_0. Speeds are million weights a second on one core, of both on the rows made here.

--record writes rows and llama.cpp's errors to a file that tests/formats/test_pack_types.c reads.

llama.cpp is used as its quantizing function in the library of llama-cpp-python; needs numpy, gguf and
safetensors beside it. Exits with 1 if a figure is above 1."""
import argparse
import ctypes
import glob
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from gguf import GGUFReader, GGMLQuantizationType
from gguf.quants import GGML_QUANT_SIZES, dequantize
from safetensors.numpy import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TYPES = ["Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K"]
COLUMNS = 1024
SAME = 1.0001  # what counts as equal: Q8_0 follows the same rule and differs where a tie is rounded


def llama_library():
    spec = importlib.util.find_spec("llama_cpp")
    if not spec:
        sys.exit("compare_packing: llama-cpp-python is not installed in this Python")
    folder = os.path.join(os.path.dirname(spec.origin), "lib")
    library = ctypes.CDLL(sorted(glob.glob(os.path.join(folder, "libggml-base.*")))[0])
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


class Packers:
    """Both ways to make blocks; each gives the blocks and the seconds."""

    def __init__(self, pack, scratch):
        self.pack, self.scratch, self.library = pack, scratch, llama_library()

    def llama(self, kind, rows, importance):
        values, size = GGML_QUANT_SIZES[kind]
        blocks = np.empty((rows.shape[0], rows.shape[1] // values * size), np.uint8)
        begin = time.process_time()
        self.library.ggml_quantize_chunk(kind.value, rows.ctypes.data, blocks.ctypes.data, 0, rows.shape[0],
                                         rows.shape[1], None if importance is None else importance.ctypes.data)
        return blocks, time.process_time() - begin

    def carat(self, kind, rows, importance):
        at = {name: os.path.join(self.scratch, name) for name in ("values", "importance", "blocks")}
        rows.tofile(at["values"])
        if importance is not None:
            importance.tofile(at["importance"])
        done = subprocess.run([self.pack, kind.name, str(rows.shape[1]), at["values"],
                               "-" if importance is None else at["importance"], at["blocks"]],
                              check=True, capture_output=True, text=True)
        blocks = np.fromfile(at["blocks"], np.uint8).reshape(rows.shape[0], -1)
        return blocks, float(done.stdout)


def error(kind, blocks, rows, importance):
    difference = dequantize(blocks, kind).astype(np.float64) - rows
    weights = 1.0 if importance is None else importance.astype(np.float64)
    return float((weights * difference * difference).sum())


def made_rows(seed, n_rows):
    """Rows by distribution, of the size that weights have."""
    rng = np.random.default_rng(seed)
    shape = (n_rows, COLUMNS)
    rows = {
        "gaussian": rng.standard_normal(shape) * 0.02,
        "laplacian": rng.laplace(size=shape) * 0.02,
        "uniform": rng.uniform(-1, 1, shape) * 0.05,
        "outliers": rng.standard_normal(shape) * np.where(rng.random(shape) < 0.01, 0.4, 0.02),
        "positive": np.abs(rng.standard_normal(shape)) * 0.02 + 0.01,
        "small": rng.standard_normal(shape) * 2e-4,
    }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in rows.items()}


def made_importance(columns, seed=7):
    """Mean squares of activations: a few columns stand out."""
    rng = np.random.default_rng(seed)
    return np.ascontiguousarray(rng.gamma(0.5, size=columns) + 0.01, np.float32)


def matrices_of_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        for name, entry in header.items():
            if name == "__metadata__" or len(entry["shape"]) != 2:
                continue
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            data = file.read(end - begin)
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            elif entry["dtype"] in ("F16", "F32"):
                values = np.frombuffer(data, "<f2" if entry["dtype"] == "F16" else "<f4").astype(np.float32)
            else:
                continue
            yield name, values.reshape(entry["shape"])


def matrices_of_gguf(path):
    for tensor in GGUFReader(path).tensors:
        if len(tensor.shape) == 2 and tensor.tensor_type.name in ("F32", "F16", "BF16", "Q8_0"):
            yield tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def matrices(path):
    """By number of columns, all the rows of a model."""
    by_columns = {}
    for _, values in matrices_of_gguf(path) if path.endswith(".gguf") else matrices_of_safetensors(path):
        by_columns.setdefault(values.shape[1], []).append(values)
    return {columns: np.ascontiguousarray(np.concatenate(all_rows)) for columns, all_rows in by_columns.items()}


def ratio(packers, kind, groups, with_importance):
    ours = theirs = seconds = seconds_theirs = 0.0
    for rows in groups:
        importance = made_importance(rows.shape[1]) if with_importance else None
        blocks, took = packers.carat(kind, rows, importance)
        ours += error(kind, blocks, rows, importance)
        seconds += took
        blocks, took = packers.llama(kind, rows, importance)
        theirs += error(kind, blocks, rows, importance)
        seconds_theirs += took
    # Rows that both hold exactly.
    quotient = ours / theirs if theirs > 0 else 1.0 if ours == 0 else float("inf")
    return quotient, seconds, seconds_theirs


def compare(packers, kinds, sources):
    """sources: name to a list of arrays, each of one width. Prints a line per type; the worst ratio."""
    print("| type | " + " | ".join(sources) + " | carat, Mw/s | with importance | llama.cpp |")
    print("|---|" + "---|" * (len(sources) + 3))
    worst = 0.0
    for kind in kinds:
        cells, n, took = [], 0, [0.0, 0.0, 0.0]
        for groups in sources.values():
            fitting = [rows for rows in groups if rows.shape[1] % GGML_QUANT_SIZES[kind][0] == 0]
            if not fitting:
                cells.append("-")
                continue
            plain, seconds, seconds_theirs = ratio(packers, kind, fitting, False)
            weighted, seconds_weighted, _ = ratio(packers, kind, fitting, True)
            worst = max(worst, plain, weighted)
            cells.append(f"{plain:.3f} / {weighted:.3f}")
            n += sum(rows.size for rows in fitting)
            took = [a + b for a, b in zip(took, (seconds, seconds_weighted, seconds_theirs))]
        speeds = " | ".join(f"{n / 1e6 / t:.0f}" if t > 0 else "-" for t in took)
        print(f"| {kind.name} | " + " | ".join(cells) + f" | {speeds} |", flush=True)
    return worst


def record(packers, kinds, path, models):
    """Rows, importance, and per type llama.cpp's errors [rows, plain and weighted]."""
    names, rows = zip(*made_rows(11, 2).items())
    rows = [values.reshape(-1) for values in rows]
    for model in models:
        values = max(matrices(model).items())[1]
        values = values[::max(1, len(values) // 8)].reshape(-1)[:2 * COLUMNS]
        names += (os.path.basename(model),)
        rows.append(values)
    out = {"values": np.stack(rows), "importance": made_importance(2 * COLUMNS, 13)}
    for kind in kinds:
        errors = [[error(kind, packers.llama(kind, row[None], importance)[0], row[None], importance)
                   for importance in (None, out["importance"])] for row in out["values"]]
        out["llama." + kind.name] = np.array(errors, np.float32)
    save_file(out, path, metadata={"rows": ", ".join(names), "made by": "tools/compare_packing.py --record",
                                   "errors": "of ggml_quantize_chunk in llama-cpp-python 0.3.36"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--pack", default=os.path.join(ROOT, "build", "tests", "formats", "pack_rows"))
    parser.add_argument("--only", default=",".join(TYPES))
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--record")
    options = parser.parse_args()
    kinds = [GGMLQuantizationType[name] for name in options.only.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        packers = Packers(options.pack, scratch)
        if options.record:
            record(packers, kinds, options.record, options.models)
            return 0
        sources = {name: [rows] for name, rows in made_rows(5, options.rows).items()}
        worst = compare(packers, kinds, sources)
        if options.models:
            print()
            sources = {}
            for path in options.models:
                name = "/".join(os.path.abspath(path).split(os.sep)[-3:])
                sources[name] = list(matrices(path).values())
            worst = max(worst, compare(packers, kinds, sources))
    return worst > SAME


if __name__ == "__main__":
    sys.exit(main())
