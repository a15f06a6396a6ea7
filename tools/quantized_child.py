#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What check_quantized.py has llama.cpp do, in a process of its own, since it ends the process where it
cannot go on.

  quantized_child.py load MODEL LOGITS < REQUEST    what it reads in MODEL, as JSON on standard output;
                                                    logits after every token to the file LOGITS, as f32
  quantized_child.py quantize JSON                  llama_model_quantize"""
import ctypes
import json
import sys

import llama_cpp as lib
import numpy as np

complaints = []


@lib.llama_log_callback
def keep_errors(level, text, _user):
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        complaints.append(text.decode("utf-8", "replace").strip())


def fail(what):
    sys.exit("; ".join([what, *complaints]))


def load(path, logits_path):
    request = json.load(sys.stdin)
    try:
        # Float keys and values and no flash attention: what differs then is how matrices are multiplied.
        model = lib.Llama(path, n_ctx=1024, n_batch=512, logits_all=True, type_k=0, type_v=0, flash_attn=False,
                          n_threads=request["threads"], verbose=False)
    except ValueError as e:
        fail(str(e))
    lib.llama_log_set(keep_errors, None)
    with open(logits_path, "wb") as out:
        for tokens in request["tokens"]:
            model.reset()
            model.eval(tokens)
            np.asarray(model.scores[:len(tokens)], np.float32).tofile(out)
    facts = {"version": lib.__version__, "n_vocab": model.n_vocab(),
             "template": model.metadata.get("tokenizer.chat_template", ""), "keys": sorted(model.metadata),
             "bos": model.token_bos(), "eos": model.token_eos(),
             "tokens": [model.tokenize(text.encode(), add_bos=False, special=True) for text in request["texts"]]}
    print(json.dumps(facts))


def importance_of(path):
    """Of an imatrix file in GGUF, as the function wants it: by matrix the mean squares, ended by an empty row."""
    import gguf
    tensors = {t.name: t.data for t in gguf.GGUFReader(path).tensors}
    names = [name[:-len(".in_sum2")] for name in tensors if name.endswith(".in_sum2")]
    rows = (lib.llama_model_imatrix_data * (len(names) + 1))()
    kept = []
    for row, name in zip(rows, names):
        means = np.ascontiguousarray(tensors[name + ".in_sum2"] / np.maximum(tensors[name + ".counts"].reshape(-1, 1), 1), np.float32).reshape(-1)
        kept.append(means)
        row.name, row.size = name.encode(), means.size
        row.data = means.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return rows, kept


def quantize(request):
    params = lib.llama_model_quantize_default_params()
    params.nthread = request["threads"]
    params.ftype = request["ftype"]
    params.pure = request["is_pure"]
    rows = importance_of(request["imatrix"]) if request["imatrix"] else None
    if rows:
        params.imatrix = rows[0]
    lib.llama_log_set(keep_errors, None)
    if lib.llama_model_quantize(request["source"].encode(), request["target"].encode(), params) != 0:
        fail("llama_model_quantize failed")


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(*sys.argv[2:])
    else:
        quantize(json.loads(sys.argv[2]))
