#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cut goldens of media down to what a clone should carry.

  cut_goldens.py fixture SOURCE OUT   a golden without what is only information, or follows from another input
  cut_goldens.py media SOURCE OUT     of an io folder some pictures, sounds and films, and fewer of their patches

Numbers are copied as they are; nothing is computed anew.
"""
import json
import os
import shutil
import struct
import sys

IMAGES = ["noise.png", "checker.png", "onebit.png", "rgba.png", "la.png", "palette-trns.png", "gray16.png", "exif5.jpg",
          "exif8.png", "3x2.png", "2x7.png", "pole.png", "ribbon.png", "alpha.webp", "lossy.webp", "anim.gif", "422.jpg",
          "cmyk.jpg", "progressive.jpg"]
SOUNDS = ["u8.wav", "mulaw.wav", "stereo-16k.wav", "frame-641.wav", "short-100.wav", "sample-1.wav", "empty.wav",
          "list-chunk.wav", "tone-11k.wav", "tone-8k.wav", "speech.opus", "speech-16k.mp3", "speech-22k.ogg"]
FILMS = ["shapes.webm", "ntsc.mp4", "short.mp4"]
BUDGETS = ["70", "280"]
MIXED_SIZE_MAX = 60000  # bytes of a file in a prompt
PICKS = 2  # patches, frames that are kept of each list


def read_tensors(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[t["data_offsets"][0]:t["data_offsets"][1]]) for name, t in header.items()}


def write_tensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def first(tensor, n):
    dtype, shape, data = tensor
    n = min(n, shape[0])
    return dtype, [n] + shape[1:], data[:len(data) // max(shape[0], 1) * n]


def read_rows(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def cut_fixture(source, out):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(source, "golden.json"), encoding="utf-8") as f:
        golden = json.load(f)

    def stays(name):
        return not name.startswith(("alt.", "in.pixel_values", "in.input_features"))
    golden["tensors"] = {name: t for name, t in golden["tensors"].items() if stays(name)}
    tensors = read_tensors(os.path.join(source, "golden.safetensors"))
    write_tensors(os.path.join(out, "golden.safetensors"), {name: t for name, t in tensors.items() if stays(name)})
    with open(os.path.join(out, "golden.json"), "w", encoding="utf-8") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")


def copy_files(source, out, folder, names):
    os.makedirs(os.path.join(out, folder), exist_ok=True)
    for name in names:
        path = shutil.copyfile(os.path.join(source, folder, name), os.path.join(out, folder, name))
        os.chmod(path, 0o644)


def cut_images(source, out):
    tensors, kept, rows = read_tensors(os.path.join(source, "images.safetensors")), {}, []
    for row in read_rows(os.path.join(source, "images.jsonl")):
        if row["name"] not in IMAGES:
            continue
        row["budgets"] = {b: x for b, x in row["budgets"].items() if b in BUDGETS}
        for budget, x in row["budgets"].items():
            key = f"{row['name']}/{row['decode']}/{budget}"
            x["positions"] = x["positions"][:PICKS]
            kept[key + "/sums"] = tensors[key + "/sums"]
            for name in ("/pick", "/rows", "/tower_pick", "/tower_rows"):
                if key + name in tensors:
                    kept[key + name] = first(tensors[key + name], PICKS)
        rows.append(row)
    write_tensors(os.path.join(out, "images.safetensors"), kept)
    write_rows(os.path.join(out, "images.jsonl"), rows)
    copy_files(source, out, "images", IMAGES)


def cut_audio(source, out):
    tensors, kept, rows = read_tensors(os.path.join(source, "audio.safetensors")), {}, []
    for row in read_rows(os.path.join(source, "audio.jsonl")):
        if row["name"] not in SOUNDS:
            continue
        row.pop("tower", None)
        for name in ("/frame_sums", "/waveform_i16"):
            if row["name"] + name in tensors:
                kept[row["name"] + name] = tensors[row["name"] + name]
        for name in ("/pick", "/frames"):
            if row["name"] + name in tensors:
                kept[row["name"] + name] = first(tensors[row["name"] + name], PICKS)
        rows.append(row)
    write_tensors(os.path.join(out, "audio.safetensors"), kept)
    write_rows(os.path.join(out, "audio.jsonl"), rows)
    copy_files(source, out, "audio", SOUNDS)


def cut_video(source, out):
    tensors, kept, rows = read_tensors(os.path.join(source, "video.safetensors")), {}, []
    for row in read_rows(os.path.join(source, "video.jsonl")):
        if row["name"] not in FILMS:
            continue
        if row["name"] + "/sums" in tensors:
            kept[row["name"] + "/sums"] = tensors[row["name"] + "/sums"]
            for name in ("/row_frames", "/rows"):
                kept[row["name"] + name] = first(tensors[row["name"] + name], PICKS)
        rows.append(row)
    write_tensors(os.path.join(out, "video.safetensors"), kept)
    write_rows(os.path.join(out, "video.jsonl"), rows)
    copy_files(source, out, "video", FILMS)


def cut_mixed(source, out):
    rows = []
    for row in read_rows(os.path.join(source, "mixed.jsonl")):
        parts = [p for m in row["messages"] if isinstance(m["content"], list) for p in m["content"]]
        paths = [p["path"] for p in parts if "path" in p]
        if any(os.path.getsize(os.path.join(source, path)) > MIXED_SIZE_MAX for path in paths):
            continue
        for path in paths:
            copy_files(source, out, os.path.dirname(path), [os.path.basename(path)])
        rows.append(row)
    write_rows(os.path.join(out, "mixed.jsonl"), rows)


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("fixture", "media"):
        sys.exit(__doc__)
    kind, source, out = sys.argv[1:]
    if kind == "fixture":
        cut_fixture(source, out)
        return
    os.makedirs(out, exist_ok=True)
    cut_images(source, out)
    cut_audio(source, out)
    cut_video(source, out)
    cut_mixed(source, out)


if __name__ == "__main__":
    main()
