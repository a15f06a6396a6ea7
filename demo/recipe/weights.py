# SPDX-License-Identifier: Apache-2.0
"""Read trained weights, from a checkpoint of train.py or from an exported model folder."""
import os

import torch


def net_name(name):
    """The name in the training network of a tensor that export_hf.py wrote."""
    if name.startswith("model.vision_embedder."):
        return name.replace("vision_embedder", "embed_vision", 1)
    return name.replace("embed_vision.embedding_projection", "embed_vision.multimodal_embedder.embedding_projection")


def load(path):
    """A state for Net.load_state_dict; the weights of a folder are bf16 and come back as float32."""
    if not os.path.isdir(path):
        return torch.load(path, map_location="cpu")["model"]
    from safetensors.torch import load_file
    return {net_name(k): v.float() for k, v in load_file(os.path.join(path, "model.safetensors")).items()}
