"""Encryption of payloads: keys that change, keys that are missing, payloads that were changed."""

from __future__ import annotations

import base64
import itertools
import os
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from infinitic import DecodingError, PayloadCodec, UsageError
from infinitic.codec.payloads import Coder
from infinitic.codecs.aes_gcm import AesGcm
from infinitic.errors import MissingDriverError

OLD, NEW = bytes(range(32)), base64.b64encode(bytes(range(32, 64))).decode()
VALUE = b'["a very secret word"]'


class Zip(PayloadCodec):
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        headers["zip"] = "1"
        return zlib.compress(data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return zlib.decompress(data) if "zip" in headers else data


def make(*codecs: PayloadCodec) -> Coder:
    return Coder(codecs)


def test_a_payload_comes_back_and_nobody_can_read_it() -> None:
    codec = make(AesGcm({"2025": OLD}))
    coded, again = codec.encode(VALUE), codec.encode(VALUE)
    assert b"secret" not in coded
    assert coded != again, "never the same twice"
    assert msgspec.json.decode(coded)["$coded"] == {"aes-gcm": "2025"}, "the id of the key is in the header"
    assert codec.decode(coded) == codec.decode(again) == VALUE


def test_keys_change_while_payloads_are_on_their_way() -> None:
    """First all know the new key, then it encrypts, then the old one goes."""
    before = AesGcm({"2025": OLD})
    ready = AesGcm({"2025": OLD, "2026": NEW}, current="2025")
    changed = AesGcm({"2025": OLD, "2026": NEW}, current="2026")
    after = AesGcm({"2026": NEW})
    old, new = make(ready).encode(VALUE), make(changed).encode(VALUE)
    for codec in (before, ready, changed):
        assert make(codec).decode(old) == VALUE
    for codec in (ready, changed, after):
        assert make(codec).decode(new) == VALUE
    with pytest.raises(DecodingError, match=r"AesGcm cannot decode .* its key '2025' is not among the keys '2026'"):
        make(after).decode(old)
    with pytest.raises(DecodingError, match="its key '2026' is not among the keys '2025'"):
        make(before).decode(new)


def test_every_changed_byte_is_found() -> None:
    codec = AesGcm({"2025": OLD})
    headers: dict[str, str] = {}
    data = codec.encode(VALUE, headers)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(DecodingError, match="was changed, or another key than this one is called '2025'"):
            codec.decode(changed, headers)
    for length in (0, 5, 12, 27, len(data) - 1):
        with pytest.raises(DecodingError, match="was changed"):
            codec.decode(data[:length], headers)


def test_a_payload_is_bound_to_the_name_of_its_key() -> None:
    codec = AesGcm({"2025": OLD, "other": OLD}, current="2025")
    with pytest.raises(DecodingError, match="was changed, or another key than this one is called 'other'"):
        codec.decode(codec.encode(VALUE, {}), {"aes-gcm": "other"})
    with pytest.raises(DecodingError, match="another key than this one"):
        AesGcm({"2025": NEW}).decode(codec.encode(VALUE, {}), {"aes-gcm": "2025"})


def test_in_a_chain_it_reads_what_was_written_before_it_was_there() -> None:
    chain = make(Zip(), AesGcm({"2025": OLD}))
    assert chain.decode(chain.encode(VALUE)) == VALUE
    assert chain.decode(make(Zip()).encode(VALUE)) == VALUE
    assert chain.decode(VALUE) == VALUE


def test_nonces_are_twelve_bytes_of_the_system() -> None:
    asked: list[int] = []
    numbers = itertools.count()

    def make_nonce(size: int) -> bytes:
        asked.append(size)
        return next(numbers).to_bytes(size, "big")

    codec = AesGcm({"2025": OLD}, make_nonce=make_nonce)
    first, second = codec.encode(VALUE, {}), codec.encode(VALUE, {})
    assert asked == [12, 12]
    assert (first[:12], second[:12]) == (bytes(12), bytes(11) + b"\x01")
    # By default no two are the same.
    nonces = {AesGcm({"2025": OLD}).encode(VALUE, {})[:12] for _ in range(100)}
    assert len(nonces) == 100


@pytest.mark.parametrize(
    ("keys", "current", "message"),
    [
        ({}, None, "current must say which key encrypts: there is none"),
        ({"a": OLD, "b": NEW}, None, "current must say which key encrypts: 'a', 'b'"),
        ({"a": OLD}, "b", "The current key 'b' is not among the keys: 'a'"),
        ({"a": b"short"}, None, "The key 'a' has 5 bytes: it must have 16, 24 or 32"),
        ({"a": "no base64!"}, None, "The key 'a' is neither bytes nor base64 text"),
        ({"a": None}, None, "The key 'a' is neither bytes nor base64 text"),
        ({"": OLD}, None, "The id of a key must be a text, got ''"),
        ({1: OLD}, None, "The id of a key must be a text, got 1"),
        ([OLD], None, "keys of AesGcm is a mapping of ids to keys"),
    ],
)
def test_what_is_no_key_is_said_and_never_shown(keys: Any, current: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        AesGcm(keys, current)
    assert "base64!" not in str(raised.value)


def test_a_number_is_no_key_of_so_many_zeros() -> None:
    with pytest.raises(UsageError, match="neither bytes nor base64 text"):
        AesGcm({"a": 32})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]  # wrong on purpose


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingDriverError, match=r'pip install "infinitic\[encryption\]"'):
        AesGcm({"2025": OLD})


def test_keys_of_every_size() -> None:
    for size in (16, 24, 32):
        codec = make(AesGcm({"a": os.urandom(size)}))
        assert codec.decode(codec.encode(VALUE)) == VALUE
