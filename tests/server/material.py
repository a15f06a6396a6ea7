# SPDX-License-Identifier: Apache-2.0
"""What tests ask the demonstration model, and what it answers: demo/eval, and tools it was shown."""
import base64
import os

EVAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "demo", "eval")

CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "The city."}},
        "required": ["city"]}
# Where a call is demanded that the question does not ask for: left to itself the model then never
# ends a string.
BOUNDED = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
           "required": ["city"]}
WEATHER = ("get_weather", "Get the weather of a city.", CITY)
TIME = ("get_time", "Get the time in a city.", CITY)
ADD = ("add", "Add two numbers.", {
    "type": "object",
    "properties": {"a": {"type": "integer", "description": "First number."},
                   "b": {"type": "integer", "description": "Second number."}},
    "required": ["a", "b"]})

PICTURE = "image_000.png", "Describe the picture.", "A blue square."
OTHER_PICTURE = "image_019.png", "Describe this image.", "A green cross."
SOUND = "audio_001.wav", "Transcribe the audio.", "two"
FILM = "video_000.mp4", "Which way does the shape move?", "The red triangle moves to the left."

PERSON = {"type": "object",
          "properties": {"name": {"type": "string", "maxLength": 12},
                         "age": {"type": "integer", "minimum": 0, "maximum": 120},
                         "likes": {"type": "array", "items": {"enum": ["tea", "rain", "cats"]},
                                   "minItems": 1, "maxItems": 2}},
          "required": ["name", "age", "likes"], "additionalProperties": False}


def read(name):
    with open(os.path.join(EVAL, name), "rb") as f:
        return f.read()


def in_base64(name):
    return base64.b64encode(read(name)).decode("ascii")


def check_person(test, person):
    """That an answer fits PERSON, without a validator that would have to be installed."""
    test.assertEqual(sorted(person), ["age", "likes", "name"])
    test.assertIsInstance(person["name"], str)
    test.assertLessEqual(len(person["name"]), 12)
    test.assertIs(type(person["age"]), int)
    test.assertTrue(0 <= person["age"] <= 120, person)
    test.assertTrue(1 <= len(person["likes"]) <= 2, person)
    test.assertTrue(set(person["likes"]) <= {"tea", "rain", "cats"}, person)
