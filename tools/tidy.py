#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what a compiler does not: the layering of the rooms, one door per outside library, banned
functions, SPDX lines, file lengths, stray words and white space. Prints file:line messages and
fails when there is one. With --report it lists the longest functions instead: a report, no gate."""
import os
import re
import sys

ROOMS = ["base", "formats", "compute", "model", "engine", "chat", "media"]
# Rooms on one step of the line: they do not know each other.
STRANGERS = {("chat", "media"), ("media", "chat")}
# Rooms that see what a stranger's program would, and what they need besides.
SEES = {"server": {"base", "formats", "server"}, "cli": {"base", "formats", "server", "cli"}}
LINES_MAX = 1000

# A header (a regular expression) and the files (prefixes) that may include it.
DOORS = [
    (r"yyjson\.h", ["src/formats/json.c"]),
    (r"lib(av|sw)\w*/.*|libheif/.*|j(peglib|error)\.h", ["src/media/decode_"]),
    (r"histedit\.h|editline/.*|readline/.*", ["src/cli/line_edit_libedit.c"]),
    (r"(imm|x86|[a-z]mm)intrin\.h|cpuid\.h|arm_(neon|sve)\.h|sys/auxv\.h|asm/hwcap\.h",
     ["src/compute/cpu/"]),
    (r"pthread\.h", ["src/base/pool.c", "src/engine/", "src/server/"]),
    (r"microhttpd\.h", ["src/server/http"]),
    (r"gnutls/.*", ["src/server/http"]),
    (r"curl/.*", ["src/server/fetch.c", "src/cli/pull_http.c"]),
    (r"openssl/.*", ["src/cli/pull_digest.c"]),
    (r"sys/socket\.h|netinet/.*|arpa/.*|netdb\.h",
     ["src/server/http", "src/server/fetch.c", "src/base/os_child.c"]),
    (r"signal\.h", ["src/base/os.c", "src/base/os_child.c", "src/base/pool.c", "src/cli/line_edit_libedit.c"]),
    (r"poll\.h|unistd\.h", ["src/base/os", "src/server/http"]),
    (r"fcntl\.h|dirent\.h|dlfcn\.h|sched\.h|spawn\.h|linux/.*|termios\.h|sys/(?!socket).*|mach.*|windows\.h",
     ["src/base/os", "src/compute/cpu/cpu_flags.c"]),
]

# Functions nobody calls, anywhere; then those with one home. Names are whole words before "(".
BANNED = "strcpy strcat sprintf vsprintf strtok atoi atol atoll atof gets alloca rand srand system popen"
HOMES = [
    ("malloc calloc realloc free posix_memalign aligned_alloc strdup strndup", ["src/base/mem.c"]),
    ("mmap munmap madvise mincore fork posix_spawn execv execve sigaction getenv isatty ioctl",
     ["src/base/os"]),
    ("fopen open read write opendir readdir stat fstat", ["src/base/os", "src/cli/"]),
    ("exit _exit abort", ["src/base/error.c", "src/base/os", "src/cli/"]),
    ("printf fprintf puts fputs putchar perror fputc putc fwrite",
     ["src/base/error.c", "src/cli/"]),
]

STRAY = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
ONE_MACHINE = re.compile(r"(?<![\w.])/(home|root|work|Users)/\w")

problems = []


def report(path, line, text):
    problems.append((path, line, text))


def is_build(parent, name):
    """A folder of Meson's or a Python environment, whatever its name."""
    path = os.path.join(parent, name)
    return name.startswith("build") or any(
        os.path.exists(os.path.join(path, mark)) for mark in ("meson-private", "pyvenv.cfg"))


def files():
    """The project's own text files, as paths from its root."""
    skipped = {"subprojects", "demo", "__pycache__", "corpus", "data"}
    kinds = (".c", ".h", ".py", ".sh", ".md", ".build", ".txt", ".ini", ".yml")
    for folder, folders, names in os.walk("."):
        folders[:] = sorted(d for d in folders if d not in skipped and not is_build(folder, d)
                            and (not d.startswith(".") or d == ".ci"))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), ".")
            if name.endswith(kinds) or name == "Makefile" or path == os.path.join(".ci", "run"):
                yield path


def without_comments(text):
    """C code with comments and strings blanked, lines kept."""
    def blank(match):
        found = match.group(0)
        if found[0] == '"' and "#include" in text[text.rfind("\n", 0, match.start()) + 1:match.start()]:
            return found
        return re.sub(r"[^\n]", " ", found)
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def room_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def check_include(path, line, name, is_ours):
    room = room_of(path)
    if name.endswith(".c"):
        report(path, line, f"includes the source file {name}")
    if is_ours and room and "/" in name:
        other = name.split("/")[0]
        if other in SEES or other in ROOMS:
            if room in SEES:
                allowed = other in SEES[room]
            elif other in SEES:
                allowed = False
            else:
                allowed = (other in ROOMS[:ROOMS.index(room) + 1]
                           and (room, other) not in STRANGERS)
            if not allowed:
                report(path, line, f"{room} must not know {other}: includes {name}")
    if room:
        for pattern, homes in DOORS:
            if re.fullmatch(pattern, name) and not path.startswith(tuple(homes)):
                report(path, line, f"{name} is included only by {', '.join(homes)}")


def check_calls(path, line, code):
    # Not a member, and not part of a longer name.
    for name in re.findall(r"(?<![\w.>])([a-z_]+)\s*\(", code):
        if name in BANNED.split():
            report(path, line, f"{name} is banned")
        if room_of(path) is None:
            continue
        for names, homes in HOMES:
            if name in names.split() and not path.startswith(tuple(homes)):
                report(path, line, f"{name} is called only in {', '.join(homes)}")
    if re.match(r"\s*typedef\s+(struct|union|enum)\b", code):
        report(path, line, "structs are not typedef'd")


def check_c(path, text):
    lines = text.split("\n")
    if "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
        report(path, 1, "the first line is not the SPDX line")
    if path.startswith(("src/", "include/")) and len(lines) - 1 > LINES_MAX:
        report(path, LINES_MAX, f"{len(lines) - 1} lines, more than {LINES_MAX}: look for the seam")
    for i, code in enumerate(without_comments(text).split("\n"), 1):
        include = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', code)
        if include:
            check_include(path, i, include.group(2), include.group(1) == '"')
        elif not code.lstrip().startswith("#"):
            check_calls(path, i, code)


def check_text(path, text):
    for i, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            report(path, i, "white space at the end of the line")
        if "\t" in line and path.endswith((".c", ".h", ".py", ".build")):
            report(path, i, "a tab")
        stray = STRAY.search(line)
        if stray:
            report(path, i, f"stray word {stray.group(1)}")
        if ONE_MACHINE.search(line):
            report(path, i, "a path of one machine")
    if text and not text.endswith("\n"):
        report(path, text.count("\n") + 1, "no newline at the end of the file")
    if text.endswith("\n\n"):
        report(path, text.count("\n"), "an empty line at the end of the file")
    if path.endswith((".py", ".sh")) or path == ".ci/run":
        if not any("SPDX-License-Identifier: Apache-2.0" in l for l in text.split("\n")[:2]):
            report(path, 1, "no SPDX line among the first two")


def longest_functions(n):
    found = []
    for path in files():
        if not (path.startswith("src/") and path.endswith(".c")):
            continue
        start, name, branches, previous = None, "", 0, ""
        with open(path, encoding="utf-8") as f:
            for i, line in enumerate(without_comments(f.read()).split("\n"), 1):
                if line == "{" and start is None:
                    start, branches = i, 0
                    called = re.search(r"([A-Za-z_]\w*)\s*\(", previous)
                    name = called.group(1) if called else "?"
                elif line == "}" and start is not None:
                    found.append((i - start - 1, branches, name, path, start))
                    start = None
                elif line and not line[0].isspace() and start is None:
                    previous = line
                branches += len(re.findall(r"\b(?:if|for|while|case)\b|&&|\|\||\?", line))
    for length, branches, name, path, line in sorted(found, reverse=True)[:n]:
        print(f"{path}:{line}: {name}: {length} lines, {branches} branches")
    above = sum(1 for f in found if f[0] > 60)
    print(f"{len(found)} functions, {above} above 60 lines")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    if "--report" in sys.argv[1:]:
        longest_functions(20)
        return 0
    count = 0
    for path in files():
        with open(path, encoding="utf-8") as f:
            text = f.read()
        count += 1
        check_text(path, text)
        if path.endswith((".c", ".h")):
            check_c(path, text)
    for path, line, text in sorted(problems):
        print(f"{path}:{line}: {text}")
    print(f"tidy: {count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
