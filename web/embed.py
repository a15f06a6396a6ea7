#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the page's files as a C table, packed with gzip where that helps. The same files give the
same bytes. usage: embed.py OUT.c FOLDER FILE..., the files inside the folder. Meson runs it with the
Python that it runs on itself."""
import gzip
import hashlib
import os
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    "": "text/plain; charset=utf-8",
}


def table(folder, paths):
    names = sorted((os.path.relpath(path, folder).replace(os.sep, "/"), path) for path in paths)
    rows = []
    for i, (name, path) in enumerate(names):
        with open(path, "rb") as file:
            plain = file.read()
        packed = gzip.compress(plain, 9, mtime=0)
        is_packed = len(packed) < 0.95 * len(plain)
        data = packed if is_packed else plain
        tag = hashlib.sha256(plain).hexdigest()[:20]
        kind = TYPES[os.path.splitext(name)[1]]
        yield f"static const unsigned char asset_{i}[] = {{"
        for at in range(0, len(data), 32):
            yield ",".join(map(str, data[at:at + 32])) + ","
        yield "};"
        rows.append(f'    {{"{name}", "{kind}", "\\"{tag}\\"", asset_{i}, sizeof(asset_{i}), '
                    f'{"true" if is_packed else "false"}}},')
    yield "const struct page_asset page_assets[] = {"
    yield from rows
    yield "    {NULL, NULL, NULL, NULL, 0, false},"
    yield "};"


def main():
    out, folder, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
    lines = ["// SPDX-License-Identifier: Apache-2.0", "// Made by web/embed.py.",
             '#include "server/page.h"', ""]
    with open(out, "w", encoding="ascii", newline="\n") as file:
        file.write("\n".join(lines + list(table(folder, paths))) + "\n")


main()
