"""Damaged messages, made from a seed: as a broken program, a bad disk or an attacker makes them."""

from __future__ import annotations

import json
import random
import re
from typing import Any, cast

_VALUES = ("null", "true", "[]", "{}", '"text"', "-1", "[[]]", '{"t": "task"}')
HUGE = ("1" + "0" * 40, "-1", "4294967296", "9007199254740993", "1e308", "-1e9", "1e999", "1.5", "NaN", "0")
_NUMBER = re.compile(rb"(?<![\w.\"])-?\d+(\.\d+)?(?![\w.\"])")


def mutate(rng: random.Random, bodies: list[bytes]) -> bytes:
    """Choose one of these bodies, and damage it in one to three ways."""
    body = rng.choice(bodies)
    for _ in range(rng.randint(1, 3)):
        body = rng.choice((_flip, _cut, _change_number, _change_field, _nest, _lengthen))(rng, body)
    return body


def _flip(rng: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    at = rng.randrange(len(body))
    return body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :]


def _cut(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def _change_number(rng: random.Random, body: bytes) -> bytes:
    found = list(_NUMBER.finditer(body))
    if not found:
        return body
    one = rng.choice(found)
    return body[: one.start()] + rng.choice(HUGE).encode() + body[one.end() :]


def _nest(rng: random.Random, body: bytes) -> bytes:
    depth = rng.choice((50, 600, 100_000))
    at = body.rfind(b":")
    return body if at < 0 else body[: at + 1] + b"[" * depth + b"]" * depth + b"}"


def _change_field(rng: random.Random, body: bytes) -> bytes:
    """Remove a field, or give it a value of another type."""
    fields = _read_fields(body)
    if not fields:
        return body
    name = rng.choice(list(fields))
    if rng.random() < 0.5:
        del fields[name]
    else:
        fields[name] = json.loads(rng.choice(_VALUES))
    return json.dumps(fields).encode()


def _lengthen(rng: random.Random, body: bytes) -> bytes:
    """Make a text 9,000 characters long."""
    fields = _read_fields(body)
    texts = [name for name, value in fields.items() if isinstance(value, str) and name != "t"]
    if not texts:
        return body
    fields[rng.choice(texts)] = rng.choice(("x", "ü", "/", "\x00")) * 9000
    return json.dumps(fields).encode()


def _read_fields(body: bytes) -> dict[str, Any]:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
