#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes: builds the targets with clang's libFuzzer, ASan and UBSan into build-fuzz/, then runs each
# for a number of seconds, as many at once as there are cores.
#   tools/fuzz.sh [SECONDS] [TARGET...]
# New inputs gather in build-fuzz/corpus/, inputs that crash in build-fuzz/crashes/; copy the latter
# to tests/fuzz/corpus/TARGET/, and they are tests from then on.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
meson=meson
ninja=ninja
[ ! -x build-tools/bin/meson ] || meson=build-tools/bin/meson
[ ! -x build-tools/bin/ninja ] || ninja=build-tools/bin/ninja
cc=clang
if [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null; then
    cc=$(brew --prefix llvm)/bin/clang # the system's own clang has no libFuzzer
fi

mkdir -p build-fuzz
# The matrices that are multiplied here are tiny: the vector kernels would only cost time to build.
build() {
    [ -e build-fuzz/build.ninja ] || CC=$cc "$meson" setup build-fuzz -Dfuzz=libfuzzer \
        -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false \
        -Ddefault_library=static -Dsimd=generic || return 1
    "$ninja" -C build-fuzz fuzz
}
build >build-fuzz/log-build.txt 2>&1 || {
    cat build-fuzz/log-build.txt >&2
    exit 1
}

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for program in build-fuzz/tests/fuzz/fuzz_*; do
        [ -f "$program" ] && [ -x "$program" ] && targets+=("${program##*/fuzz_}")
    done
fi
if [ ${#targets[@]} -eq 0 ]; then
    echo "fuzz: no targets" >&2
    exit 1
fi

# A huge allocation is a finding too (-malloc_limit_mb), one that the system refuses is not.
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

fuzz_one() {
    local name=$1 log=build-fuzz/log-$1.txt seeds=tests/fuzz/corpus/$1
    mkdir -p "build-fuzz/corpus/$name" build-fuzz/crashes
    local folders=("build-fuzz/corpus/$name")
    [ ! -d "$seeds" ] || folders+=("$seeds")
    if "build-fuzz/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -malloc_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/crashes/$name-" "${folders[@]}" >"$log" 2>&1; then
        printf 'fuzz: %-16s %9s runs, %s inputs kept, no crash\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(find "build-fuzz/corpus/$name" -type f | wc -l)"
    else
        printf 'fuzz: %-16s FAILED, see %s\n' "$name" "$log"
        grep -aE 'SUMMARY|runtime error|Test unit written' "$log" || tail -n 20 "$log"
        return 1
    fi
}

cores=$(getconf _NPROCESSORS_ONLN)
failed=0
pids=()
for name in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$cores" ]; do
        sleep 0.2
    done
    fuzz_one "$name" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
done
exit $failed
