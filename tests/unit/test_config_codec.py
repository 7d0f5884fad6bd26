"""`codec:` in a configuration: the classes of payload codecs, with options."""

from __future__ import annotations

import asyncio
import base64
import itertools
import traceback
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from infinitic import Client, PayloadCodec, Worker, Workflow
from infinitic.cli.connection import open_connection
from infinitic.cli.describe.timeline import read_timeline
from infinitic.cli.doctor.command import check_code
from infinitic.cli.project import Project
from infinitic.codec.payloads import make_coder
from infinitic.config import load
from infinitic.errors import ConfigurationError

_numbers = itertools.count()
_HERE = "tests.unit.test_config_codec"


class Zip(PayloadCodec):
    def __init__(self, level: int = 6) -> None:
        self.level = level

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        headers["zip"] = str(self.level)
        return zlib.compress(data, self.level)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return zlib.decompress(data)


class Mask(PayloadCodec):
    """A cipher that hides nothing from anybody."""

    def __init__(self, key: str, strict: bool = False) -> None:
        if strict:
            raise ValueError(f"the key {key} is too short")
        self.key = key.encode()[0]

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return bytes(byte ^ self.key for byte in data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return bytes(byte ^ self.key for byte in data)


class Half(PayloadCodec):
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        return data


class Letter(Workflow):
    async def send(self, text: str) -> str:
        return text[::-1]


def write(codec: str) -> str:
    name = f"codec-{next(_numbers)}"
    return f"""\
transport: {{in_memory: {{name: {name}}}}}
storage: {{in_memory: {{name: {name}}}}}
codec:
{codec}
workflows:
  - name: Letter
    executor: {{class: {_HERE}.Letter}}
    state_engine: {{}}
"""


BOTH = f"""\
  - class: {_HERE}.Zip
    options: {{level: 9}}
  - class: {_HERE}.Mask
    options: {{key: "${{PAYLOAD_KEY}}"}}
"""


def test_worker_client_and_commands_have_the_codecs_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYLOAD_KEY", "k")
    file = tmp_path / "infinitic.yml"
    file.write_text(write(BOTH))

    async def main() -> None:
        config = load(file)
        zip_, mask = config.make_codec()
        assert isinstance(zip_, Zip)
        assert isinstance(mask, Mask)
        assert (zip_.level, mask.key) == (9, ord("k"))
        async with Worker.from_config(file).running(), Client.from_config(file) as client:
            handle = await client.dispatch(client.new_workflow(Letter).send, "desserts")
            assert await handle.result() == "stressed"
            storage = config.make_storage()
            assert storage is not None
            coded = await read_timeline(storage, Project.of(config), None, handle.workflow_id, payloads=True)
            assert b'"$coded":{"zip":"9"}' in bytes(coded.methods[0].arguments), "in the storage it is coded"
            run = await client.read_run(handle)
            assert bytes(run.methods[0].arguments) == b'["desserts"]'
            assert bytes(run.methods[0].value) == b'"stressed"'
            async with open_connection(file) as connection:
                other = connection.client.get_handle(Letter.send, handle.workflow_id)
                assert await other.result() == "stressed"
            async with Client.from_config(file, codec=()) as bare:
                assert b"$coded" in bytes((await bare.read_run(handle)).methods[0].value), "an argument overrides it"

    asyncio.run(main())


def test_codecs_of_this_package_are_made_of_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_NEW", base64.b64encode(bytes(range(32))).decode())
    chain = f"""\
  - class: infinitic.codecs.aes_gcm.AesGcm
    options: {{keys: {{old: "{base64.b64encode(bytes(32)).decode()}", new: "${{KEY_NEW}}"}}, current: new}}
  - class: infinitic.codecs.claim_check.ClaimCheck
    options: {{store: {tmp_path}, above_bytes: 0}}
"""
    coder = make_coder(load(text=write(chain)).make_codec())
    assert coder is not None
    coded = coder.encode(b'"hello"')
    assert b'"aes-gcm":"new","claim-check":"' in coded
    assert coder.decode(coded) == b'"hello"'
    wrong = load(text=write(chain.replace("current: new", "current: newest")))
    with pytest.raises(ConfigurationError, match="The current key 'newest' is not among the keys: 'old', 'new'"):
        wrong.make_codec()
    for options in ("{}", "{keys: {a: secret}}"):
        wrong = load(text=write(f"  - class: infinitic.codecs.aes_gcm.AesGcm\n    options: {options}"))
        with pytest.raises(ConfigurationError, match=r"codec\[0\]") as raised:
            wrong.make_codec()
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("codec", "line", "message"),
    [
        ("  - class: no_such.Codec", 4, "codec[0].class: there is no module 'no_such'"),
        (f"  - class: {_HERE}.Zap", 4, "has no 'Zap' (did you mean 'Zip'?)"),
        (f"  - class: {_HERE}.Letter", 4, "codec[0].class: tests.unit.test_config_codec.Letter is no payload codec"),
        (f"  - class: {_HERE}.Half", 4, "Half lacks decode"),
        (f"  - class: {_HERE}.Mask", 4, "Mask cannot be made with no options: missing a required argument: 'key'"),
        (
            f"  - class: {_HERE}.Zip\n    options: {{speed: 3}}",
            5,
            "codec[0].options: tests.unit.test_config_codec.Zip cannot be made with speed",
        ),
        (
            f"  - class: {_HERE}.Zip\n  - class: {_HERE}.Mask\n    options:\n      key: secret\n      strict: true",
            6,
            "making tests.unit.test_config_codec.Mask raised ValueError, whose text has the value of an option",
        ),
    ],
)
def test_a_codec_that_cannot_be_made_is_said_with_its_line(codec: str, line: int, message: str) -> None:
    config = load(text=write(codec))
    for make in (
        config.make_codec,
        lambda: Worker.from_config(config=config),
        lambda: Client.from_config(config=config),
    ):
        with pytest.raises(ConfigurationError) as raised:
            make()
        assert str(raised.value).startswith(f"<text>:{line}: codec[")
        assert message in str(raised.value)
        assert "secret" not in "".join(traceback.format_exception(raised.value)), "not in a traceback either"
    assert [each.subject for each in check_code(config)] == ["code"], "doctor says it, too"


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        ("  - options: {}", "codec[0].class: is missing"),
        ("  - {class: a.B, option: {}}", "codec[0].option: unknown key (did you mean 'options'?)"),
        ("  - {class: a.B, options: [1]}", "codec[0].options: must be a mapping of keys"),
        ("  class: a.B", "codec: must be a list"),
    ],
)
def test_what_the_section_may_not_say(codec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match="text") as raised:
        load(text=write(codec))
    assert message in str(raised.value)
