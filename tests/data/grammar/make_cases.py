#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes schemas.jsonl and regex.jsonl: documents with the verdict of jsonschema (Draft 2020-12) and
of Python's re. Run by hand where the package jsonschema is installed; the tests read the files.

Valid documents are written in the form that docs/grammars.md states: declared order, no space but
one after a comma or colon. Invalid ones differ from a valid one in one place."""

import json
import random
import re

import jsonschema

R = random.Random(20260)
CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER

NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["v", "next"],
}

# Written by hand: a schema, documents that fit, documents that do not.
HAND = [
    ({}, [None, True, 0, -1.5, "x", [], {}, [1, [2, {"a": None}]], {"a b": {"c": []}}], []),
    ({"type": "integer"}, [0, -7, 12345678901234567890], [1.5, "1", None, [1]]),
    ({"type": "number"}, [0, -7, 0.125, 12.5], ["1", None]),
    ({"type": ["string", "null"]}, ["", "a\"b\\c\n\u00e9\u4e2d\U0001f600", None], [1, [], False]),
    ({"type": "string", "minLength": 2, "maxLength": 4}, ["ab", "\u00e9\u00e9\u00e9\u00e9", "\"\\\n"],
     ["a", "", "abcde", "\U0001f600"]),
    ({"type": "string", "maxLength": 0}, [""], ["a"]),
    ({"enum": ["red", 1, None, [1, 2], {"k": "v"}]}, ["red", 1, None, [1, 2], {"k": "v"}],
     ["re", "redd", 2, [1], {"k": "w"}, {}]),
    ({"const": {"a": [True, "x"]}}, [{"a": [True, "x"]}], [{"a": [True]}, {}]),
    ({"type": "integer", "minimum": -13, "maximum": 207}, [-13, -12, -9, 0, 7, 99, 100, 206, 207],
     [-14, -20, -100, 208, 210, 300, 1000]),
    ({"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 1001}, [100, 101, 999, 1000], [99, 9, 1001, 1010]),
    ({"type": "integer", "minimum": 0, "multipleOf": 7}, [0, 7, 14, 49, 700], [1, 6, 8, 701]),
    ({"type": "number", "minimum": 0.25, "maximum": 12.5}, [0.25, 0.3, 1, 9.75, 12.5, 12.499], [0.2, 0, 12.51, 13, -1, 100]),
    ({"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1}, [0, 0.5, -0.5, -0.999, 0.001],
     [-1, 1, 1.5, -1.001]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}, [[1], [1, 2], [1, 2, 3]],
     [[], [1, 2, 3, 4], ["a"], [1, None]]),
    ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
     [[], ["a"], ["a", 1]], [[1], ["a", "b"], ["a", 1, 2]]),
    ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "boolean"}, "minItems": 2},
     [["a", True], ["a", False, True]], [[], ["a"], ["a", 1]]),
    ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"],
      "additionalProperties": False}, [{"a": 1, "b": "x"}, {"b": "y"}],
     [{}, {"a": 1}, {"b": 1}, {"b": "x", "c": 1}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
     [{}, {"a": 1}, {"a": 1, "b": "x"}, {"ab": "x", "": "y"}, {"A": "z"}], [{"a": "x"}, {"b": 1}, {"a": 1, "b": 2}]),
    ({"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
     [{}, {"n_a": 1}, {"n_": 1, "n_b": 2}], [{"x": 1}, {"n_a": "1"}]),
    ({"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
     [{"n_a": 1, "x": "y"}], [{"n_a": "1"}, {"x": 1}]),
    ({"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
     [{"v": 1, "next": None}, {"v": 1, "next": {"v": 2, "next": {"v": 3, "next": None}}}],
     [{"v": 1}, {"v": 1, "next": {"v": 2}}, {"v": 1, "next": 2}]),
    ({"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["kids"]},
     [{"kids": []}, {"kids": [{"kids": []}, {"kids": [{"kids": []}]}]}], [{}, {"kids": [1]}, {"kids": [{}]}]),
    ({"anyOf": [{"type": "object", "properties": {"t": {"const": "a"}, "x": {"type": "integer"}}, "required": ["t", "x"]},
                {"type": "object", "properties": {"t": {"const": "b"}, "x": {"type": "string"}}, "required": ["t", "x"]}]},
     [{"t": "a", "x": 1}, {"t": "b", "x": "1"}], [{"t": "a", "x": "1"}, {"t": "b", "x": 1}, {"t": "c", "x": 1}]),
    ({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"minimum": 3, "type": "integer"}}, "required": ["b"]}]},
     [{"a": 1, "b": 3}], [{"a": 1}, {"b": 3}, {"a": 1, "b": 2}]),
    ({"type": "integer", "allOf": [{"minimum": 3}, {"maximum": 9}, {"multipleOf": 3}]}, [3, 6, 9], [0, 4, 12]),
    ({"$ref": "#/$defs/a~1b", "minimum": 5, "$defs": {"a/b": {"type": "integer"}}}, [5, 17], [4, "5"]),
    ({"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31", "2000-02-29"],
     ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "24-01-01"]),
    ({"type": "string", "format": "ipv4"}, ["0.0.0.0", "255.255.255.255", "10.1.2.3"], ["256.1.1.1", "1.2.3", "1.2.3.4.5"]),
    ({"type": "string", "format": "ipv6"}, ["::", "::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8"],
     [":", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::"]),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567-e89b-12d3-a456-42661417400"]),
    ({"type": "string", "format": "email"}, ["a@b.c", "first.last@example.org"], ["a", "example.org"]),
    ({"type": "string", "pattern": "^[A-Z]{2}\\d+$"}, ["AB1", "XY123"], ["A1", "AB", "AB1x", "ab1"]),
    ({"type": "string", "pattern": "b+"}, ["b", "abba", "x\nb"], ["", "a", "xyz"]),
    ({"type": "string", "pattern": "^a|b$"}, ["a", "axx", "xxb", "b"], ["xa", "bx", ""]),
    ({"type": "string", "pattern": "^.{2,3}$", "minLength": 3}, ["abc"], ["ab", "abcd"]),
    ({"type": "object", "properties": {"\u00fc \"q\"": {"const": "\n"}}, "required": ["\u00fc \"q\""]},
     [{"\u00fc \"q\"": "\n"}], [{"\u00fc": "\n"}, {}]),
    (True, [1, "x"], []),
    ({"type": "object", "properties": {}, "additionalProperties": False}, [{}], [{"a": 1}]),
    ({"properties": {"a": False, "b": {"type": "null"}}, "type": "object"}, [{}, {"b": None}], [{"a": 1}]),
]

REGEX = [
    ("abc", ["abc"], ["ab", "abcd", "xabc"]),
    ("a*b+c?", ["b", "aabbc", "bc"], ["", "a", "ac", "bcc"]),
    ("(foo|ba(r|z)){2,3}", ["foobar", "bazbarfoo"], ["foo", "foofoofoofoo", "ba"]),
    ("[^a-c\\d]+", ["xyz", "\u00e9\u4e2d\U0001f600"], ["a", "x1", ""]),
    ("\\d{3}-\\d{4}", ["123-4567"], ["1234567", "12-3456"]),
    ("\\w+@\\w+\\.(com|org)", ["a@b.com", "x_1@y.org"], ["a@b.net", "@b.com"]),
    ("^(yes|no)$", ["yes", "no"], ["y", "yesno"]),
    ("[\\u00e0-\\u00ff]{2}", ["\u00e9\u00ff"], ["e\u00e9", "\u00e9"]),
    ("a.c", ["abc", "a\u4e2dc"], ["a\nc", "ac"]),
    ("(a|b)*abb", ["abb", "aababb"], ["ab", "abba"]),
    ("[a-]+", ["-a-"], ["b"]),
    ("(?:x(?:y(?:z)?)?)?", ["", "x", "xy", "xyz"], ["xz", "y"]),
    ("\\x41\\t\\$\\{\\}", ["A\t${}"], ["A${}"]),
    ("a{2}b{0,1}c{1,}", ["aac", "aabccc"], ["ac", "aabbc", "aab"]),
]


def write(value, space):
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ") if space else (",", ":"))


def is_valid(schema, text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return jsonschema.Draft202012Validator(schema, format_checker=CHECKER).is_valid(value)


def mutate(text):
    """One character more, fewer or other."""
    i = R.randrange(len(text) + 1)
    kind = R.randrange(3)
    letter = R.choice("\"\\{}[]:,0159ae-. ")
    return text[:i] + (letter if kind < 2 else "") + text[i + (kind > 0) :]


def row(schema, valid, invalid):
    yes = []
    no = []
    for value in valid:
        for space in (False, True):
            text = write(value, space)
            assert is_valid(schema, text), (schema, text)
            if text not in yes:
                yes.append(text)
    for value in invalid:
        text = write(value, False)
        assert not is_valid(schema, text), (schema, text)
        no.append(text)
    for text in list(yes):
        for _ in range(6):
            other = mutate(text)
            if not is_valid(schema, other) and other not in no:
                no.append(other)
    return {"schema": schema, "valid": yes, "invalid": no}


def main():
    with open("schemas.jsonl", "w") as f:
        for schema, valid, invalid in HAND:
            f.write(json.dumps(row(schema, valid, invalid)) + "\n")
    with open("regex.jsonl", "w") as f:
        for pattern, yes, no in REGEX:
            for text in yes + no:
                assert bool(re.fullmatch(pattern, text)) == (text in yes), (pattern, text)
            f.write(json.dumps({"regex": pattern, "yes": yes, "no": no}) + "\n")


main()
