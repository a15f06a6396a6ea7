# SPDX-License-Identifier: Apache-2.0
"""From checkpoints to GGUF files and back, and from GGUF files to checkpoints and back, over a folder of
fixtures: those of the tree, or all those that CARAT_FIXTURES names."""
import glob
import json
import os
import shutil
import unittest

from common import DATA, carat
from model_files import Gguf, JobTest, content, safetensors

FIXTURES = os.environ.get("CARAT_FIXTURES") or os.path.join(DATA, "fixtures")
TOWERS = ("model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio.")


def golden_of(folder):
    with open(os.path.join(folder, "golden.json"), encoding="utf-8") as f:
        return json.load(f)


def goldens(kind):
    """Folders with goldens of a kind."""
    folders = [os.path.dirname(path) for path in sorted(glob.glob(os.path.join(FIXTURES, "*", "golden.json")))]
    return [folder for folder in folders if golden_of(folder).get("kind") == kind]


def checkpoints():
    """Models with weights, and the goldens of each that carat recomputes."""
    found = {os.path.realpath(os.path.dirname(path)): [] for path in glob.glob(os.path.join(FIXTURES, "*", "model", "*.safetensors"))}
    for folder in goldens("lm"):
        found.setdefault(os.path.realpath(os.path.join(folder, golden_of(folder)["model"])), []).append(folder)
    return found


def all_tensors(folder):
    tensors = {}
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        tensors.update(safetensors(path))
    return tensors


class RoundTrips(JobTest):
    def verify(self, folder, model):
        """The goldens of the folder, with another model."""
        here = self.path("golden")
        shutil.rmtree(here, ignore_errors=True)
        os.mkdir(here)
        golden = golden_of(folder)
        golden["model"] = os.path.relpath(model, here)
        with open(os.path.join(here, "golden.json"), "w", encoding="utf-8") as f:
            json.dump(golden, f)
        shutil.copy(os.path.join(folder, "golden.safetensors"), here)
        done = carat("verify", here, timeout=300)
        self.assertEqual(done.code, 0, done.out + done.err)
        self.assertIn(" 0 failed", done.out)

    def refused(self, model, target):
        """What carat does not run is refused with a sentence, and nothing is left behind."""
        done = carat("convert", model, target, "--quiet")
        self.assert_fails(done, 1, os.path.basename(os.path.dirname(model)))
        self.assertFalse(glob.glob(target + "*"))
        return done.err

    def test_checkpoints(self):
        n_taken, refusals = 0, {}
        for model, folders in checkpoints().items():
            with self.subTest(model=model):
                one, back = self.path("one.gguf"), self.path("back")
                for path in [back, one]:
                    shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
                done = carat("convert", model, one, "--quiet")
                if done.code:
                    refusals[model] = self.refused(model, one)
                    continue
                n_taken += 1
                self.make("convert", one, back, "--quiet")
                want, made = all_tensors(model), all_tensors(back)
                towers = any(name.startswith("model.vision_tower.") for name in want)
                want = {name: t for name, t in want.items() if not (towers and name.startswith(TOWERS))}
                if towers:  # of which no GGUF file of a decoder speaks: the names of a model of text alone
                    want = {name.replace("model.language_model.", "model."): t for name, t in want.items()}
                self.assertEqual(sorted(made), sorted(want))
                for name, tensor in want.items():
                    self.assertEqual(made[name], tensor, name)
                models = [one, back]
                for kind in ["f32", "f16", "bf16"]:
                    models.append(self.path(kind + ".gguf"))
                    self.make("convert", model, models[-1], "--type", kind, "--quiet", "--force")
                self.make("convert", self.path("f32.gguf"), back, "--quiet", "--force")
                self.assertEqual(all_tensors(back), made)
                self.there_and_back(model)
                for folder in folders:
                    if not towers or golden_of(folder)["fixture"].endswith("-text"):
                        for path in models:
                            self.verify(folder, path)
        self.assertGreater(n_taken, 0)
        for sentence in refusals.values():
            self.assertRegex(sentence, "does not run|drafter")

    def there_and_back(self, model):
        """Of values that were Q8_0 there is one way back."""
        first, back, again = self.path("q8.gguf"), self.path("q8"), self.path("q8-again.gguf")
        self.make("quantize", model, first, "Q8_0", "--pure", "--projector-place", "inside", "--quiet", "--force")
        self.make("convert", first, back, "--type", "f32", "--quiet", "--force")
        self.make("quantize", back, again, "Q8_0", "--pure", "--projector-place", "inside", "--quiet", "--force")
        a, b = Gguf(first), Gguf(again)
        quantized = [name for name, kind in a.types().items() if kind == "Q8_0"]
        self.assertTrue(quantized)
        for name in quantized:
            self.assertEqual(b.tensors[name], a.tensors[name], name)

    def test_quantized_files(self):
        """Their values and logits, as floats in a checkpoint and in a GGUF file of that."""
        n = 0
        for folder in goldens("quant"):
            here, back = self.path("quant"), self.path("back")
            os.mkdir(here)
            for name in ["golden.json", "golden.safetensors"]:
                shutil.copy(os.path.join(folder, name), here)
            for source in sorted(glob.glob(os.path.join(folder, "model-*.gguf"))):
                self.make("convert", source, back, "--type", "f32", "--quiet", "--force")
                self.make("convert", back, os.path.join(here, os.path.basename(source)), "--quiet")
                n += 1
            done = carat("verify", here, timeout=300)
            self.assertEqual(done.code, 0, done.out + done.err)
        self.assertGreater(n, 0)

    def test_gguf_files(self):
        """Every one as it is; and those that are a model to a checkpoint and back."""
        paths = sorted(glob.glob(os.path.join(FIXTURES, "*", "*.gguf")))
        self.assertTrue(paths)
        for path in paths:
            with self.subTest(file=path):
                copy, back, again = self.path("copy.gguf"), self.path("back"), self.path("again.gguf")
                self.make("convert", path, copy, "--quiet", "--force")
                want, made = Gguf(path), Gguf(copy)
                self.assertEqual(made.tensors, want.tensors)
                for key, value in want.keys.items():
                    if value == value:  # not a number is not itself
                        self.assertEqual(made.keys.get(key), value, key)
                shutil.rmtree(back, ignore_errors=True)
                done = carat("convert", path, back, "--type", "f32", "--quiet")
                if done.code:
                    self.assert_fails(done, 1, os.path.basename(path))
                    self.assertRegex(done.err, "does not run|drafter|projections|adapter")
                    self.assertFalse(os.path.exists(back))
                    continue
                kinds = {kind for kind, _, _ in want.tensors.values()} - {"F32"}
                kind = kinds.pop()
                if kind in ("F16", "BF16", "Q8_0"):
                    self.make("quantize", back, again, kind, "--pure", "--quiet", "--force")
                    made = Gguf(again)
                    self.assertEqual(sorted(made.tensors), sorted(want.tensors))
                    for name, tensor in want.tensors.items():
                        self.assertEqual(made.tensors[name], tensor, name)


if __name__ == "__main__":
    unittest.main()
