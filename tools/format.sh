#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Formats the C code, or with --check says which files clang-format would change. Bundled code in
# subprojects/ stays as it came.
set -euo pipefail
cd "$(dirname "$0")/.."

# Version 16 is what the code was formatted with; another one may differ in details.
format=
for version in -16 "" -17 -18 -19 -20 -21 -15; do
    candidate=clang-format$version
    if command -v "$candidate" >/dev/null; then
        major=$("$candidate" --version | sed 's/.*version \([0-9]*\).*/\1/')
        if [ "$major" -ge 15 ]; then
            format=$candidate
            break
        fi
    fi
done
if [ -z "$format" ]; then
    echo "format: clang-format 15 or newer is needed; tools/setup.sh ci installs it" >&2
    exit 1
fi

each_file() { find src include tests examples -name '*.[ch]' -print0 | sort -z | xargs -0 "$@"; }
if [ "${1:-}" = --check ]; then
    # One line per place, without clang-format's pictures of it.
    places=$(each_file "$format" --dry-run -Werror 2>&1 | grep -E '^[^ ]+:[0-9]+:[0-9]+: ' || true)
    if [ -n "$places" ]; then
        echo "$places"
        echo "format: run 'make format'"
        exit 1
    fi
    echo "format: all files are as $("$format" --version | sed 's/.*version/clang-format/') wants them"
else
    each_file "$format" -i
fi
