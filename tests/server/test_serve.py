# SPDX-License-Identifier: Apache-2.0
"""The server itself: start and end, what it tells, who may ask."""
import json
import unittest

from harness import Server


class Basics(unittest.TestCase):
    def test_answers_and_ends(self):
        with Server() as server:
            self.assertEqual(server.json("/health")["status"], "ok")
            models = server.json("/v1/models")
            self.assertEqual(models["object"], "list")
            self.assertEqual(len(models["data"]), 1)
            name = models["data"][0]["id"]
            self.assertEqual(server.json("/v1/models/" + name)["id"], name)
            error = server.json("/nowhere", status=404)["error"]
            self.assertIn("/nowhere", error["message"])
            status, headers, _ = server.request("/health", body=b"x", method="POST")
            self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD, OPTIONS"))


if __name__ == "__main__":
    unittest.main()
