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

has_flag() { grep -qw "$1" /proc/cpuinfo 2>/dev/null; }
levels=generic
case $(uname -m) in
x86_64)
    ! has_flag avx2 || levels="$levels avx2"
    ! has_flag avx512bw || levels="$levels avx512"
    ! has_flag avx512_vnni || levels="$levels avx512vnni"
    ;;
aarch64 | arm64) levels="$levels neon" ;;
esac

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
    "$ninja" -C build-aarch64 tests/compute/check_kernels >/dev/null
    qemu-aarch64 -L /usr/aarch64-linux-gnu build-aarch64/tests/compute/check_kernels
else
    echo "== arm64 kernels: skipped, qemu-user or the cross compiler is not there"
fi
