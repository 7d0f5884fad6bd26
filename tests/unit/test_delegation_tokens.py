"""The token of a delegated task says where it was asked for, and what is none is named (S8)."""

from __future__ import annotations

import base64
from hashlib import blake2b

import msgspec
import pytest

from infinitic import UsageError
from infinitic.bounds import MAX_NUMBER
from infinitic.messages.delegated import LONGEST_TOKEN, DelegatedTask, make_delegation_token, read_delegation_token

SMALL = DelegatedTask("Trip", "w", 0, 1, 0, "Approvals", "ask")
LONG = "\N{GRINNING FACE}" * 63
LARGE = DelegatedTask(LONG, LONG, MAX_NUMBER, MAX_NUMBER, MAX_NUMBER, LONG, LONG)


@pytest.mark.parametrize("task", [SMALL, LARGE])
def test_S8_a_token_is_read_as_it_was_made(task: DelegatedTask) -> None:
    token = make_delegation_token(task)
    assert read_delegation_token(token) == task
    assert len(token) <= LONGEST_TOKEN
    assert token.replace("-", "").replace("_", "").isalnum()


def seal(fields: object) -> str:
    """Make a token with a right checksum."""
    data = msgspec.msgpack.encode(fields)
    check = blake2b(data, digest_size=4, person=b"delegated task").digest()
    return base64.urlsafe_b64encode(data + check).decode().rstrip("=")


def test_S8_each_changed_character_of_a_token_is_found() -> None:
    token = make_delegation_token(SMALL)
    others = {token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token) - 1)}
    for other in (*others, token[:-4], f"{token}AAAA", token[4:], token * 300):
        with pytest.raises(UsageError, match="no token of a delegated task, or it was damaged"):
            read_delegation_token(other)


@pytest.mark.parametrize(
    "fields",
    [
        "x",
        [],
        [True, *SMALL],
        [1, *SMALL[:-1]],
        [1, *SMALL, "x"],
        [1, "", *SMALL[1:]],
        [1, *SMALL[:3], -1, *SMALL[4:]],
        [1, *SMALL[:3], True, *SMALL[4:]],
        [1, *SMALL[:6], "x" * 256],
        [1, *SMALL[:5], 7, "ask"],
    ],
)
def test_S8_a_token_with_wrong_fields_is_named(fields: object) -> None:
    with pytest.raises(UsageError, match="no token of a delegated task"):
        read_delegation_token(seal(fields))


def test_S8_a_token_of_a_newer_release_is_named() -> None:
    with pytest.raises(UsageError, match="has version 2, and this release knows version 1"):
        read_delegation_token(seal([2, "anything"]))


@pytest.mark.parametrize("token", [None, "", 7, b"x"])
def test_S8_what_is_no_text_is_named(token: object) -> None:
    with pytest.raises(UsageError, match=r"is text, as task_context\(\)\.delegation_token"):
        read_delegation_token(token)
