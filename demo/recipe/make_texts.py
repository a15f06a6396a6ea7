#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write texts to measure the demo model on, for `carat eval --special`: JSON lines with text and domain.

  python make_texts.py --out ../eval/texts.jsonl --seed 7002 --prose ../../docs/caches.md ../../docs/scheduling.md

Conversations of the kinds that the model was trained on, from a seed that training did not use: what the model should
write is the text, what stands before it the prompt. And prose, of which its small vocabulary knows nothing.
"""
import argparse
import json
import random

import tasks


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--count", type=int, default=150, help="conversations of each kind")
    p.add_argument("--prose", nargs="*", default=[])
    p.add_argument("--prose-bytes", type=int, default=9000, help="of each text, up to the end of a paragraph")
    a = p.parse_args()
    rng = random.Random(a.seed)
    kinds = [("text", lambda: tasks.text(rng, thinking=False)), ("thinking", lambda: tasks.text(rng, thinking=True)),
             ("tools", lambda: tasks.tools(rng))]
    n_bytes = 0
    with open(a.out, "w", encoding="utf-8") as f:
        def add(text, domain, **more):
            f.write(json.dumps({**more, "text": text, "domain": domain}, ensure_ascii=False) + "\n")
            return len(text.encode("utf-8"))

        for domain, make in kinds:
            seen = set()
            while len(seen) < a.count:
                s = make()
                if s.prompt not in seen:
                    seen.add(s.prompt)
                    n_bytes += add(s.target, domain, prompt=s.prompt)
        for path in a.prose:
            with open(path, encoding="utf-8") as source:
                text = source.read()
            end = text.rfind("\n\n", 0, a.prose_bytes)
            n_bytes += add(text[:end + 1 if end > 0 else a.prose_bytes], "prose")
    print(a.out, n_bytes, "bytes of text")


if __name__ == "__main__":
    main()
