#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs the library into an empty folder and uses it as a stranger would: the header alone as C and
as C++, the exported symbols, the examples against pkg-config's shared and static library."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile


def run(command, **kwargs):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}")
    return done.stdout


def find(folder, name):
    for place, _, names in os.walk(folder):
        if name in names:
            return os.path.join(place, name)
    sys.exit(f"{name} was not installed")


def check_header(header, scratch, compilers):
    """A header needs nothing before it, in either language."""
    for language, compiler, standard in compilers:
        if not shutil.which(compiler[0]):
            print(f"header as {language}: skipped, no {compiler[0]}")
            continue
        source = os.path.join(scratch, "alone." + ("cc" if language == "C++" else "c"))
        with open(source, "w", encoding="utf-8") as f:
            f.write(f'#include "{os.path.basename(header)}"\nint main(void) {{ return carat_version() == 0; }}\n')
        run(compiler + [standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", os.path.dirname(header),
                        "-c", source, "-o", source + ".o"])
        print(f"{os.path.basename(header)} as {language}: compiles alone")


def check_symbols(library, headers):
    """The shared library exports what the headers declare, and nothing else."""
    if sys.platform == "darwin":
        lines = run(["nm", "-gU", library]).splitlines()
        names = {line.split()[-1].lstrip("_") for line in lines if line.strip()}
    else:
        lines = run(["nm", "-D", "--defined-only", library]).splitlines()
        names = {line.split()[-1].split("@")[0] for line in lines if line.strip()}
    strangers = sorted(n for n in names if not n.startswith("carat_"))
    if strangers:
        sys.exit(f"{library} exports names that are not carat_*: {' '.join(strangers)}")
    text = ""
    for header in headers:
        with open(header, encoding="utf-8") as f:
            text += f.read()
    undeclared = sorted(n for n in names if n + "(" not in text)
    if undeclared:
        sys.exit(f"{library} exports what no header declares: {' '.join(undeclared)}")
    print(f"{len(names)} symbols exported, all declared in its headers")


def build_examples(args, root, scratch, is_static):
    environment = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=root,
                       PKG_CONFIG_PATH=os.path.dirname(find(root, "carat.pc")))
    flags = run([args.pkg_config, "--cflags", "--libs"] + (["--static"] if is_static else []) + ["carat"],
                env=environment).split()
    if is_static:
        # The archive by its name: with -lcarat the linker would take the shared library.
        flags = [find(root, "libcarat.a") if flag == "-lcarat" else flag for flag in flags]
    programs = []
    for name in sorted(os.listdir(os.path.join(args.source, "examples"))):
        if name.endswith(".c"):
            source = os.path.join(args.source, "examples", name)
            program = os.path.join(scratch, name[:-2] + ("_static" if is_static else ""))
            run(args.cc.split() + args.cc_arg + ["-std=c11", "-Wall", "-Wextra", "-Werror", source, "-o", program] + flags)
            programs.append(program)
    print(f"{len(programs)} examples built against the {'static' if is_static else 'shared'} library")
    return programs


def ask(programs, root, model):
    library = os.path.dirname(find(root, "libcarat.dylib" if sys.platform == "darwin" else "libcarat.so"))
    environment = dict(os.environ, LD_LIBRARY_PATH=library, DYLD_LIBRARY_PATH=library)
    for program in programs:
        if not os.path.basename(program).startswith("ask"):
            continue
        answer = run([program, model, "What is the capital of France?"], env=environment).strip()
        if not answer:
            sys.exit(f"{program} answered nothing")
        print(f"{os.path.basename(program)} answered: {answer}")
        refused = subprocess.run([program, "/nonexistent.gguf", "x"], env=environment, capture_output=True, text=True)
        if refused.returncode != 1 or "/nonexistent.gguf" not in refused.stderr:
            sys.exit(f"{program}: a missing model gave exit code {refused.returncode}: {refused.stderr}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--meson", required=True)
    parser.add_argument("--cc", required=True)
    parser.add_argument("--cc-arg", action="append", default=[], help="a sanitizer's flag")
    parser.add_argument("--pkg-config", default="pkg-config")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carat-install-") as scratch:
        root = os.path.join(scratch, "root")
        run(args.meson.split() + ["install", "-C", args.build, "--no-rebuild", "--destdir", root])
        headers = [find(root, name) for name in ("carat.h", "carat_jobs.h")]
        for header in headers:
            check_header(header, scratch, [("C", args.cc.split(), "-std=c11"), ("C++", ["c++"], "-std=c++11")])
        if not args.cc_arg: # a sanitizer exports its own
            check_symbols(find(root, "libcarat.dylib" if sys.platform == "darwin" else "libcarat.so"), headers)
        programs = build_examples(args, root, scratch, False) + build_examples(args, root, scratch, True)
        model = os.path.join(args.source, "demo", "carat-demo.gguf")
        if os.path.exists(model):
            ask(programs, root, model)
        program = find(root, "carat")
        run([program, "--version"])
        if os.path.exists(model):
            # The installed model with its projections, found beside the program.
            sound = os.path.join(args.source, "demo", "eval", "audio_010.wav")
            heard = run([program, "run", "--audio", sound, "What did I say?", "--temperature", "0"],
                        env={k: v for k, v in os.environ.items() if k != "CARAT_MODEL"}, stdin=subprocess.DEVNULL)
            if not heard.strip():
                sys.exit("the installed program heard nothing")
            print(f"the installed program heard: {heard.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
