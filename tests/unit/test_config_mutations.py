"""Thousands of damaged files: each is read, or its mistakes are reported, in bounded time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from infinitic.config import load
from infinitic.errors import ConfigurationError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "config").glob("*.yml"))
ENVIRON = {"PGPASSWORD": "pw-of-postgres", "MYSQL_PASSWORD": "pw-of-mysql", "REDIS_PASSWORD": "pw-of-redis"}
SECRETS = (*ENVIRON.values(), "hunter-2222")

PIECES: tuple[str, ...] = (
    *"{}[]:,-?&*!|>%@`\"'#\n\t \\~=<",
    *(
        "<<",
        "<<: *a",
        "&a ",
        "*a",
        "!!bool x",
        "!!timestamp x",
        "!!int ''",
        "!!float",
        "!!set {a}",
        "!!binary x",
        "!x y",
    ),
    *("!!python/object:os.x ", "---\n", "...\n", "%YAML 1.2\n", "${", "${A", "${A}", "${A:-b}", "$${", "? ", "? [a]\n"),
    *("\ue000", "\ue0000\ue001", '"\\ue0000\\ue001"', "\x00", "\x07", "\x85", "\u2028", "\ufeff", "\ud800", "é", "😀"),
    *('"\\ud800"', '"\\x1b[31m"', "[" * 60, "{a: " * 60, "- " * 60, "? " * 60, "9" * 5000, "0x" + "f" * 4000, ".nan"),
    *(".inf", "1e999", "-0", "1:30:45", "2026-01-01", "null", "true", "yes", "k" * 3000, "password: hunter-2222\n"),
    *("password_file: ${PGPASSWORD}\n", "authentication: hunter-2222\n"),
)


def cut(text: str, random: Random) -> str:
    start = random.randrange(len(text) + 1)
    return text[:start] + text[start + random.randint(1, 20) :]


def put(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice(PIECES) + text[at:]


def flip(text: str, random: Random) -> str:
    data = bytearray(text.encode(errors="surrogatepass"))
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data.decode(errors="replace")


def move(text: str, random: Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    line = lines.pop(random.randrange(len(lines)))
    lines.insert(random.randrange(len(lines) + 1), random.choice((line, line * 2, "  " + line, line.lstrip())))
    return "".join(lines)


def replace_value(text: str, random: Random) -> str:
    found = list(re.finditer(r"(?<=: )[^\n{}]+", text))
    if not found:
        return text
    match = random.choice(found)
    return text[: match.start()] + random.choice(PIECES) + text[match.end() :]


MUTATIONS: tuple[Callable[[str, Random], str], ...] = (cut, put, put, flip, move, replace_value, replace_value)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_read_or_refused_by_line(seed: int) -> None:
    random = Random(seed)
    texts = [path.read_text() for path in EXAMPLES]
    refused = 0
    for _ in range(300):
        text = random.choice(texts)
        for _ in range(random.randint(1, 4)):
            text = random.choice(MUTATIONS)(text, random)
        try:
            load(text=text, environ=ENVIRON)
        except ConfigurationError as error:
            refused += 1
            for mistake in str(error).splitlines():
                assert re.match(r"<text>:\d+: \S", mistake), (mistake, text)
                assert not any(each in mistake for each in SECRETS), (mistake, text)
                assert mistake.isprintable(), (mistake, text)
                assert len(mistake) < 600
    assert 60 < refused < 300


VALUES: tuple[str, ...] = (
    *("", "x", "[1]", '{"a": 1}', "[", "{", '[{"name": "W", "state_engine": {}}]', "null", "NaN", "[NaN]", "9" * 5000),
    *("[" * 2000 + "]" * 2000, "[" * 100 + "]" * 100, '{"a":' * 60 + "1" + "}" * 60, "\udcff", '"\\ud800"', "[1e999]"),
    *(f"[{'9' * 5000}]", '{"name": {"a": [1]}}', '{"pulsar": {"tenant": ["x"]}}'),
)
KEYS: tuple[str, ...] = (
    *("NAME", "HORIZON_SECONDS", "TRANSPORT", "STORAGE", "SERVICES", "WORKFLOWS", "PULSAR", "POSTGRES", "IN_MEMORY"),
    *(
        "PASSWORD",
        "EXECUTOR",
        "RETRY",
        "CLASS",
        "CLASSES",
        "0",
        "1",
        "7",
        "99999999",
        "²",
        "",
        "ALLOWED_CLUSTERS",
        "TLS",
    ),
)


@pytest.mark.parametrize("seed", range(4))
def test_odd_variables_override_or_are_refused_by_name(seed: int) -> None:
    random = Random(seed)
    texts = [path.read_text() for path in EXAMPLES]
    for _ in range(100):
        depth = random.choice((1, 2, 3, 4, 5, 60))
        names = ["INFINITIC_" + "__".join(random.choices(KEYS, k=depth)) for _ in range(random.randint(1, 3))]
        variables = {name: random.choice(VALUES) for name in names}
        try:
            load(text=random.choice(texts), environ=ENVIRON | variables)
        except ConfigurationError as error:
            for mistake in str(error).splitlines():
                assert re.match(r"(<text>:\d+|INFINITIC_\S*): \S", mistake), (mistake, variables)
                assert mistake.isprintable(), (mistake, variables)
