# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Node client (test_node.mjs) against carat serve. The packages of node/package.json are in
CARAT_NODE or build-tools/node, where `make test` puts them; without them, or Node, it is skipped."""
import os
import shutil
import subprocess
import sys

from harness import Server

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SKIPPED = 77


def main():
    node = shutil.which("node")
    packages = os.environ.get("CARAT_NODE") or os.path.join(ROOT, "build-tools", "node")
    if not node or not os.path.isdir(os.path.join(packages, "node_modules", "openai")):
        print("skipped: %s is missing: tools/setup.sh test installs it" %
              ("OpenAI's Node client" if node else "node"))
        return SKIPPED
    with Server(args=["--transcription-prompt", "Transcribe the audio."]) as server:
        env = dict(os.environ, CARAT_URL=server.url, CARAT_NODE=packages,
                   CARAT_EVAL=os.path.join(ROOT, "demo", "eval"))
        done = subprocess.run([node, os.path.join(HERE, "test_node.mjs")], env=env, timeout=500)
        assert done.returncode == 0, "test_node.mjs failed"
    return 0


if __name__ == "__main__":
    sys.exit(main())
