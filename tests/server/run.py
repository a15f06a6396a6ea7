# SPDX-License-Identifier: Apache-2.0
"""Runs one test of the server with the Python that has the clients: build-tools/clients, which
tools/setup.sh makes, or what CARAT_CLIENTS_PYTHON names. run.py FILE [MODULE...]: where one of the
modules is missing the test is skipped, and says so."""
import os
import subprocess
import sys

SKIPPED = 77  # Meson's


def interpreter():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for path in (os.environ.get("CARAT_CLIENTS_PYTHON"),
                 os.path.join(root, "build-tools", "clients", "bin", "python")):
        if path and os.path.exists(path):
            return path
    return sys.executable


def main():
    python, test, modules = interpreter(), sys.argv[1], sys.argv[2:]
    for module in modules:
        if subprocess.run([python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode:
            print(f"skipped: the Python module {module} is not there (tools/setup.sh test installs it)")
            return SKIPPED
    os.execv(python, [python, test])


if __name__ == "__main__":
    sys.exit(main())
