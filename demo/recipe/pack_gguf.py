#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pack the demo model as it ships: the quantized decoder, and the media projections in F16.

  python pack_gguf.py --decoder carat-demo-Q8_0.gguf --mmproj mmproj-carat-demo.gguf --out ..

Takes the GGUF files that a converter and quantizer made of the exported checkpoint. Adds what the
checkpoint's generation_config.json says and converters leave out (the demo answers greedily), and
halves the projections: they are kept in F32 by converters, 8 MB that a clone need not carry.
"""
import argparse
import os

import gguf
import numpy as np


def copy_metadata(reader, writer, extra):
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or field.name in extra:
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)
    for key, (value, kind) in extra.items():
        writer.add_key_value(key, value, kind)


def pack(src, dst, extra, halve):
    reader = gguf.GGUFReader(src)
    writer = gguf.GGUFWriter(dst, reader.fields["general.architecture"].contents())
    copy_metadata(reader, writer, extra)
    for t in reader.tensors:
        data, kind = t.data, t.tensor_type
        if halve and kind == gguf.GGMLQuantizationType.F32 and len(t.shape) >= 2:
            data, kind = np.array(data).astype(np.float16), gguf.GGMLQuantizationType.F16
        writer.add_tensor(t.name, np.ascontiguousarray(data), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{dst}: {os.path.getsize(dst)} bytes, {len(reader.tensors)} tensors")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--decoder", required=True)
    p.add_argument("--mmproj", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    greedy = {"general.sampling.temp": (0.0, gguf.GGUFValueType.FLOAT32)}
    pack(a.decoder, os.path.join(a.out, "carat-demo.gguf"), greedy, halve=False)
    pack(a.mmproj, os.path.join(a.out, "mmproj-carat-demo.gguf"), {}, halve=True)


if __name__ == "__main__":
    main()
