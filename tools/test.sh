#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every test: all suites once, the arithmetic once more for each instruction set that this machine
# has, and the arm64 kernels under emulation where a cross compiler is there.
#   tools/test.sh [BUILD_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build}
meson=meson
ninja=ninja
[ ! -x build-tools/bin/meson ] || meson=build-tools/bin/meson
[ ! -x build-tools/bin/ninja ] || ninja=build-tools/bin/ninja

if [ ! -e "$build/build.ninja" ]; then
    "$meson" setup "$build"
elif [ ! -e "$build/tests/base/test_mem" ]; then
    "$meson" setup --reconfigure "$build" # it may be older than the unit tests' library
fi
"$ninja" -C "$build"
"$meson" test -C "$build" --no-rebuild --print-errorlogs

# The checker's lines begin with the levels that this machine and build have, and twins of its own.
levels=$("$build"/tests/compute/check_kernels | awk '/comparisons/ && $1 !~ /twin$/ { print $1 }')

for level in $levels; do
    echo "== compute and golden tests, CARAT_CPU=$level"
    CARAT_CPU=$level "$meson" test -C "$build" --no-rebuild --print-errorlogs --quiet \
        --logbase "testlog-$level" --suite compute --suite golden
done

if command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null &&
    [ "$(uname -m)" != aarch64 ]; then
    echo "== arm64 kernels under emulation"
    [ -e build-aarch64/build.ninja ] ||
        "$meson" setup build-aarch64 --cross-file cross/aarch64-linux-gnu.ini >/dev/null
    "$ninja" -C build-aarch64 tests/compute/check_kernels carat >/dev/null
    arm64() { qemu-aarch64 -L /usr/aarch64-linux-gnu "$@"; }
    arm64_levels=$(arm64 build-aarch64/tests/compute/check_kernels | tee /dev/stderr |
        awk '/comparisons/ && !/^generic/ { print $1 }')
    for level in $arm64_levels; do
        echo "goldens on arm64, CARAT_CPU=$level"
        CARAT_CPU=$level arm64 build-aarch64/carat verify tests/data/fixtures/unified-text \
            tests/data/fixtures/unified-mixed tests/data/fixtures/quant >build-aarch64/verify.txt || {
            cat build-aarch64/verify.txt
            exit 1
        }
        tail -n 1 build-aarch64/verify.txt
    done
else
    echo "== arm64 kernels: skipped, qemu-user or the cross compiler is not there"
fi
