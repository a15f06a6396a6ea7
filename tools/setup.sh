#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing for one purpose: run, test, fuzz or ci. Looks first, and touches neither
# the network nor the system when everything is there. Debian, Ubuntu, and macOS with Homebrew; on
# other systems it says what to install.
set -eu
cd "$(dirname "$0")/.."

purpose=${1:-run}
meson_min=1.0.1
needed=   # packages without which the purpose fails
wanted=   # packages without which something is skipped

case $purpose in
run | test | fuzz | ci) ;;
*)
    echo "usage: tools/setup.sh run|test|fuzz|ci" >&2
    exit 2
    ;;
esac

if [ "$(uname -s)" = Darwin ]; then
    system=brew
elif command -v apt-get >/dev/null 2>&1; then
    system=apt
else
    system=other
fi

say() { echo "setup: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
has_library() { has pkg-config && pkg-config --exists "$1"; }
is_for() { case " $* " in *" $purpose "*) true ;; *) false ;; esac; }

# Package names: Debian's, then Homebrew's ("-" where there is none or none is needed).
need() { add_package needed "$1" "$2"; }
want() { add_package wanted "$1" "$2"; }
add_package() {
    package=$2
    [ "$system" != brew ] || package=$3
    [ "$package" != - ] || return 0
    eval "$1=\"\$$1 $package\""
}

# Since Debian 13 libheif's decoders are packages of their own.
has_heif_decoders() {
    [ "$system" = apt ] || return 0
    for package in libheif-plugin-libde265 libheif-plugin-dav1d; do
        apt-cache show "$package" >/dev/null 2>&1 || continue
        dpkg -s "$package" >/dev/null 2>&1 || return 1
    done
    return 0
}

# For the page's test. Ubuntu has Chromium as a snap only, which is nobody's to install unasked.
has_browser() {
    has chromium-headless-shell || has chromium && return 0
    [ "$system" = apt ] && ! apt-cache show chromium-headless-shell >/dev/null 2>&1
}

meson_is_new_enough() {
    [ -x build-tools/bin/meson ] && return 0
    has meson || return 1
    found=$(meson --version)
    [ "$(printf '%s\n%s\n' "$meson_min" "$found" | sort -V | head -n 1)" = "$meson_min" ]
}

has_venv() {
    has python3 && python3 -c 'import ensurepip' 2>/dev/null
}

# Absent counts: then it will be Debian's.
is_debian_node() {
    ! has node || [ "$system" != apt ] || dpkg -S /usr/share/nodejs >/dev/null 2>&1
}

has_browser() {
    has chromium-headless-shell || has chromium
}

browser_package() {
    [ "$system" = apt ] || return 0
    for package in chromium-headless-shell chromium; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            echo "$package"
            return
        fi
    done
}

has_clang_format() {
    for version in "" -16 -17 -18 -19 -20 -21; do
        has "clang-format$version" || continue
        major=$("clang-format$version" --version | sed 's/.*version \([0-9]*\).*/\1/')
        [ "$major" -ge 15 ] && return 0
    done
    return 1
}

has_fuzzer() {
    has clang || return 1
    dir=$(clang -print-runtime-dir 2>/dev/null || true)
    parent=$(clang -print-resource-dir 2>/dev/null || true)
    for place in "$dir" "$parent"/lib/*; do
        for library in "$place"/libclang_rt.fuzzer*; do
            [ -e "$library" ] && return 0
        done
    done
    return 1
}

find_missing() {
    needed= wanted=
    has cc || has gcc || has clang || need "gcc libc6-dev" -
    has meson || [ -x build-tools/bin/meson ] || need meson meson
    has ninja || [ -x build-tools/bin/ninja ] || need ninja-build ninja
    has pkg-config || need pkg-config pkgconf
    has_library libedit || want libedit-dev -
    has_library libavformat && has_library libavcodec ||
        want "libavformat-dev libavcodec-dev libavutil-dev" ffmpeg
    has_library libjpeg || want libjpeg-dev jpeg-turbo
    has_library libheif || want libheif-dev libheif
    has_library libmicrohttpd || want libmicrohttpd-dev libmicrohttpd
    has_library libcurl || want libcurl4-openssl-dev curl
    has_library libcrypto || want libssl-dev openssl@3
    has_library libcrypto || want libssl-dev openssl@3
    has_heif_decoders || want "libheif-plugin-libde265 libheif-plugin-dav1d" -
    if is_for test ci; then
        has_library cmocka || need libcmocka-dev cmocka
        has python3 || need python3 python
        has c++ || has g++ || has clang++ || want g++ -
        has_venv || want python3-venv -
        has openssl || want openssl -
        # Node from elsewhere brings npm; Debian's npm does not go with it.
        has node || want nodejs node
        has npm || ! is_debian_node || want npm -
        has_browser || want "$(browser_package)" -
        has qemu-aarch64 || want qemu-user -
        has aarch64-linux-gnu-gcc || want "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" -
        has_browser || want chromium-headless-shell -
    fi
    if is_for fuzz ci; then
        has_fuzzer || need "clang $(clang_runtime)" llvm
    fi
    if is_for ci; then
        has git || need git git
        has_clang_format || need "$(format_package)" clang-format
    fi
}

# The runtime library has the compiler's version in its name.
clang_runtime() {
    [ "$system" = apt ] || return 0
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
    [ -z "$version" ] || echo "libclang-rt-$version-dev"
}

format_package() {
    for package in clang-format-16 clang-format-17 clang-format-18 clang-format-19; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            echo "$package"
            return
        fi
    done
    echo clang-format
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        say "neither root nor sudo: please run as root: $*"
        return 1
    fi
}

install_packages() {
    say "installing:$*"
    case $system in
    apt) as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ;;
    brew)
        has brew || { say "Homebrew is missing: see https://brew.sh"; return 1; }
        brew install --quiet "$@" >&2
        ;;
    other)
        say "this system is neither Debian, Ubuntu nor macOS; please install these yourself: $*"
        return 1
        ;;
    esac
}

# Distributions older than Debian 12 and Ubuntu 23.04 carry a Meson that cannot read our build files.
install_own_meson() {
    say "Meson $meson_min or newer is needed: putting one into build-tools/"
    if ! has python3 || ! python3 -c 'import ensurepip' 2>/dev/null; then
        install_packages python3 python3-venv
    fi
    python3 -m venv build-tools
    build-tools/bin/pip install --quiet "meson>=$meson_min" ninja
}

# OpenAI's Node client, in the versions of tests/server/node, where Node is there already.
install_node_clients() {
    has node && has npm || { say "without node and npm OpenAI's Node client is not tested here"; return 0; }
    for file in package.json package-lock.json; do
        cmp -s "tests/server/node/$file" "build-tools/node/$file" || rm -rf build-tools/node
    done
    [ -d build-tools/node/node_modules/openai ] && return 0
    mkdir -p build-tools/node
    cp tests/server/node/package.json tests/server/node/package-lock.json build-tools/node/
    (cd build-tools/node && npm ci --silent --no-audit --no-fund >&2) ||
        { rm -rf build-tools/node; say "OpenAI's Node client could not be fetched: going on without"; }
}

# The clients that the tests of the server use, from wherever pip and npm are set up to look. What
# was installed is noted beside it, so that nothing is asked twice; without them, tests are skipped.
install_clients() {
    wanted_file=tests/server/requirements.txt
    if has_venv && ! cmp -s "$wanted_file" build-tools/clients/requirements.txt; then
        say "installing the Python clients into build-tools/clients"
        if python3 -m venv build-tools/clients &&
            build-tools/clients/bin/pip install --quiet --disable-pip-version-check -r "$wanted_file" >&2; then
            cp "$wanted_file" build-tools/clients/requirements.txt
        else
            say "going on without the Python clients: their tests will be skipped"
        fi
    fi
    wanted_file=tests/server/node/package-lock.json
    if has node && has npm && ! cmp -s "$wanted_file" build-tools/node/installed.json; then
        say "installing the Node clients into build-tools/node"
        mkdir -p build-tools/node
        cp tests/server/node/package.json "$wanted_file" build-tools/node/
        if (cd build-tools/node && npm ci --silent --ignore-scripts --no-audit --no-fund >&2); then
            cp "$wanted_file" build-tools/node/installed.json
        else
            say "going on without the Node clients: their tests will be skipped"
        fi
    fi
}

# What is only wanted is not worth asking for a password each time.
is_root_at_hand() {
    [ "$system" = brew ] || [ "$(id -u)" = 0 ] || { has sudo && sudo -n true 2>/dev/null; }
}

find_missing
[ -n "$needed" ] || is_root_at_hand || wanted=
if [ -n "$needed$wanted" ] && [ "$system" = apt ]; then
    as_root apt-get update -qq >&2 || say "the package lists could not be updated; trying with the old ones"
    find_missing # package names may depend on the lists
fi
# Words on purpose: each is a list of packages.
# shellcheck disable=SC2086
[ -z "$needed" ] || install_packages $needed
for package in $wanted; do
    install_packages "$package" || say "going on without $package"
done
meson_is_new_enough || install_own_meson
! is_for test ci || install_node_clients
if is_for test ci; then
    install_clients
    has_browser || say "without Chromium the page is not tested here"
fi
if is_for test ci && [ "$system" != brew ] && { ! has qemu-aarch64 || ! has aarch64-linux-gnu-gcc; }; then
    say "without qemu-user and the arm64 cross compiler the arm64 kernels are not tested here"
fi
