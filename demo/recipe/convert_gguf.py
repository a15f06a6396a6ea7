#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the demo model as it ships: carat-demo.gguf (decoder, Q8_0) and mmproj-carat-demo.gguf.

  python convert_gguf.py --model model --out ..

Reads the folder that export_hf.py wrote. The projections of pictures and sound stay in 16 bits; the
files say that the demo answers greedily, as the folder's generation_config.json does.
"""
import argparse
import json
import os

import numpy as np
import torch
from gguf import GGMLQuantizationType as Q, GGUFWriter, quants
from safetensors.torch import load_file

NAME = "carat-demo"
TEXT = "model.language_model."
LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "layer_scalar": "layer_output_scale"}
# special tokens that a reader of the answer has to see; the others only steer
VISIBLE = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}
CONTROL, USER_DEFINED, NORMAL, BYTE = 3, 4, 1, 6
PATCH = 48


def decoder_name(name):
    """The GGUF name of a decoder tensor, None for a tensor of the projections."""
    if not name.startswith(TEXT):
        return None
    name = name.removeprefix(TEXT)
    if not name.startswith("layers."):
        return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]
    _, n, rest = name.split(".", 2)
    return f"blk.{n}.{LAYER[rest.removesuffix('.weight')]}.weight"


def add_decoder_metadata(w, t, heads_kv):
    full = t["rope_parameters"]["full_attention"]
    sliding = t["rope_parameters"]["sliding_attention"]
    w.add_block_count(t["num_hidden_layers"])
    w.add_context_length(t["max_position_embeddings"])
    w.add_embedding_length(t["hidden_size"])
    w.add_feed_forward_length(t["intermediate_size"])
    w.add_head_count(t["num_attention_heads"])
    w.add_head_count_kv(heads_kv)
    w.add_rope_freq_base(full["rope_theta"])
    w.add_rope_freq_base_swa(sliding["rope_theta"])
    w.add_layer_norm_rms_eps(t["rms_norm_eps"])
    w.add_key_length(t["global_head_dim"])
    w.add_value_length(t["global_head_dim"])
    w.add_final_logit_softcapping(t["final_logit_softcapping"])
    w.add_sliding_window(t["sliding_window"])
    w.add_uint32("gemma4.attention.shared_kv_layers", t["num_kv_shared_layers"])
    w.add_uint32("gemma4.embedding_length_per_layer_input", t["hidden_size_per_layer_input"] or 0)
    w.add_array("gemma4.attention.sliding_window_pattern", [k == "sliding_attention" for k in t["layer_types"]])
    w.add_uint32("gemma4.attention.key_length_swa", t["head_dim"])
    w.add_uint32("gemma4.attention.value_length_swa", t["head_dim"])
    w.add_rope_dimension_count(t["global_head_dim"])
    w.add_uint32("gemma4.rope.dimension_count_swa", t["head_dim"])


def token_type(token, special):
    if token in special:
        return USER_DEFINED if token in VISIBLE else CONTROL
    return BYTE if len(token) == 6 and token.startswith("<0x") else NORMAL


def add_tokenizer(w, folder):
    data = json.load(open(os.path.join(folder, "tokenizer.json")))
    generation = json.load(open(os.path.join(folder, "generation_config.json")))
    vocab = data["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    assert [vocab[t] for t in tokens] == list(range(len(tokens)))
    special = {t["content"] for t in data["added_tokens"] if t["special"]}
    w.add_array("tokenizer.ggml.suppress_tokens", generation["suppress_tokens"])
    w.add_tokenizer_model("gemma4")
    w.add_token_list(tokens)
    w.add_token_scores([-1000.0] * len(tokens))
    w.add_token_types([token_type(t, special) for t in tokens])
    w.add_token_merges([" ".join(m) for m in data["model"]["merges"]])
    w.add_bos_token_id(vocab["<bos>"])
    w.add_eos_token_id(vocab["<eos>"])
    w.add_unk_token_id(vocab["<unk>"])
    w.add_pad_token_id(vocab["<pad>"])
    w.add_mask_token_id(vocab["<mask>"])
    w.add_add_bos_token(True)
    w.add_add_sep_token(False)
    w.add_add_eos_token(False)
    with open(os.path.join(folder, "chat_template.jinja"), newline="") as f:
        w.add_chat_template(f.read())
    w.add_add_space_prefix(False)


def rope_factors(t):
    """Divisors of the full layers' frequencies: the part that does not turn gets a huge one."""
    half = t["global_head_dim"] // 2
    turning = int(t["rope_parameters"]["full_attention"]["partial_rotary_factor"] * half)
    return np.array([1.0] * turning + [1e30] * (half - turning), np.float32)


def add(w, name, value, kind):
    value = value.float().numpy() if isinstance(value, torch.Tensor) else value
    w.add_tensor(name, np.ascontiguousarray(quants.quantize(value, kind)), raw_dtype=kind)


def write_file(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_decoder(path, folder, config, tensors):
    t = config["text_config"]
    w = GGUFWriter(path, "gemma4")
    named = {g: v for g, v in ((decoder_name(k), v) for k, v in tensors.items()) if g}
    rope = rope_factors(t)
    w.add_type("model")
    w.add_name(NAME)
    w.add_size_label(f"{(sum(v.numel() for v in named.values()) + rope.size) / 1e6:.1f}M")
    add_decoder_metadata(w, t, [t["num_key_value_heads"] if k == "sliding_attention" else t["num_global_key_value_heads"]
                                for k in t["layer_types"]])
    add_tokenizer(w, folder)
    w.add_quantization_version(2)
    w.add_file_type(7)
    w.add_float32("general.sampling.temp", 0.0)
    add(w, "output_norm.weight", named.pop("output_norm.weight"), Q.F32)
    add(w, "rope_freqs.weight", rope, Q.F32)
    add(w, "token_embd.weight", named.pop("token_embd.weight"), Q.Q8_0)
    for name in sorted(named):
        add(w, name, named[name], Q.Q8_0 if named[name].ndim == 2 else Q.F32)
    write_file(w)


def planes(x):
    """The last axis from rows of pixels of three colours to three planes of pixels."""
    lead = x.shape[:-1]
    return x.reshape(*lead, PATCH * PATCH, 3).transpose(-1, -2).reshape(*lead, -1)


def add_projection_metadata(w, config):
    hidden, audio = config["text_config"]["hidden_size"], config["audio_config"]["audio_embed_dim"]
    w.add_uint32("general.file_type", 32)
    w.add_bool("clip.has_vision_encoder", True)
    for key, value in (("projection_dim", hidden), ("image_size", 224), ("patch_size", config["vision_config"]["patch_size"]),
                       ("embedding_length", config["vision_config"]["mm_embed_dim"]), ("feed_forward_length", 0),
                       ("block_count", 0), ("attention.head_count", 0)):
        w.add_uint32("clip.vision." + key, value)
    w.add_array("clip.vision.image_mean", [0.0, 0.0, 0.0])
    w.add_array("clip.vision.image_std", [1.0, 1.0, 1.0])
    w.add_bool("clip.has_audio_encoder", True)
    for key, value in (("projection_dim", hidden), ("embedding_length", audio), ("feed_forward_length", 0),
                       ("block_count", 0), ("attention.head_count", 0)):
        w.add_uint32("clip.audio." + key, value)
    w.add_string("clip.vision.projector_type", "gemma4uv")
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_string("clip.audio.projector_type", "gemma4ua")
    w.add_uint32("clip.audio.num_mel_bins", 128)
    w.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-6)
    w.add_quantization_version(2)


def write_projections(path, config, tensors):
    v = {k.removeprefix("model.vision_embedder."): x for k, x in tensors.items()}
    w = GGUFWriter(path, "clip")
    mine = [x for k, x in tensors.items() if not k.startswith(TEXT)]
    w.add_type("mmproj")
    w.add_name(NAME)
    w.add_size_label(f"{sum(x.numel() for x in mine) / 1e6:.1f}M")
    add_projection_metadata(w, config)
    add(w, "mm.a.input_projection.weight", v["model.embed_audio.embedding_projection.weight"], Q.BF16)
    add(w, "mm.input_projection.weight", v["model.embed_vision.embedding_projection.weight"], Q.BF16)
    add(w, "v.patch_embd.bias", v["patch_dense.bias"], Q.F32)
    add(w, "v.patch_embd.weight", planes(v["patch_dense.weight"]), Q.F16)
    for n, norm in ((1, "patch_ln1"), (2, "patch_ln2"), (3, "pos_norm")):
        for part in ("bias", "weight"):
            x = v[f"{norm}.{part}"]
            add(w, f"v.patch_norm.{n}.{part}", planes(x) if n == 1 else x, Q.F32)
        if n == 2:
            add(w, "v.position_embd.weight", v["pos_embedding"].transpose(0, 1), Q.F16)
    write_file(w)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    config = json.load(open(os.path.join(a.model, "config.json")))
    tensors = load_file(os.path.join(a.model, "model.safetensors"))
    write_decoder(os.path.join(a.out, "carat-demo.gguf"), a.model, config, tensors)
    write_projections(os.path.join(a.out, "mmproj-carat-demo.gguf"), config, tensors)
    for name in ("carat-demo.gguf", "mmproj-carat-demo.gguf"):
        print(name, os.path.getsize(os.path.join(a.out, name)), "bytes")


if __name__ == "__main__":
    main()
