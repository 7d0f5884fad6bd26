"""Payload codecs: broker, storage and engine see no readable payload."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from infinitic import Channel, Client, PayloadCodec, UsageError, Workflow, workflow
from infinitic.codec.payloads import Coder, make_coder
from infinitic.codecs.aes_gcm import AesGcm
from infinitic.errors import DecodingError, PayloadError
from infinitic.storage import Query
from infinitic_testing.loop import DeadlockError, run
from infinitic_testing.simulation import Simulation

SECRET = "a very secret word"


class Zip(PayloadCodec):
    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        headers["zip"] = "zlib"
        return zlib.compress(data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        assert headers["zip"] == "zlib"
        return zlib.decompress(data)


class Scramble(PayloadCodec):
    """Like encryption: never the same twice."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._nonces = itertools.count()

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        nonce = next(self._nonces) % 7
        headers["nonce"] = str(nonce)
        return bytes(byte ^ self._key ^ nonce for byte in data)

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return bytes(byte ^ self._key ^ int(headers["nonce"]) for byte in data)


class Desk:
    async def say(self, word: str) -> str:
        return word[::-1]


@workflow(replay_check="strict")
class Secretive(Workflow):
    desk = Workflow.new_service(Desk)
    words = Channel[str]()

    async def run(self, word: str) -> list[str]:
        drawn = self.inline(str.upper, word)
        said = await self.desk.say(drawn)
        return [said, await self.words.receive()]


async def played(sim: Simulation) -> list[str]:
    sim.add_service(Desk())
    sim.add_workflow(Secretive)
    handle = await sim.client.dispatch(sim.client.new_workflow(Secretive).run, SECRET)
    await sim.run_until_idle()
    await sim.client.get_workflow_by_id(Secretive, handle.workflow_id).words.send(SECRET)
    return await handle.result()


@pytest.mark.parametrize(
    "codec", [Zip(), Scramble(42), [Zip(), Scramble(42)], []], ids=["zip", "scramble", "both", "none"]
)
@pytest.mark.parametrize("cache_size", [1000, 0])
def test_values_arrive_and_nothing_readable_is_kept(codec: Any, cache_size: int) -> None:
    async def main() -> tuple[list[str], bytes]:
        async with Simulation(codec=codec, cache_size=cache_size) as sim:
            result = await played(sim)
            found = (await sim.storage.states.find(Query())).found
            segments = await sim.storage.states.history(found[0].key, outbox=True)
            return result, b"".join(segment.events + (segment.outbox or b"") for segment in segments)

    result, kept = run(main())
    assert result == [SECRET.upper()[::-1], SECRET]
    readable = [text for text in (SECRET, SECRET.upper(), SECRET.upper()[::-1]) if text.encode() in kept]
    assert bool(readable) is (codec == [])


class Picky(PayloadCodec):
    """It refuses the secret word so many times."""

    def __init__(self, *, blocking: bool = False, times: int = 1) -> None:
        self.blocking = blocking
        self.left = times

    def encode(self, data: bytes, headers: dict[str, str]) -> bytes:
        if SECRET.encode() in data and self.left:
            self.left -= 1
            raise PayloadError("no secrets here")
        return data

    def decode(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        return data


class Careful(Workflow):
    desk = Workflow.new_service(Desk)

    async def run(self) -> list[str]:
        log: list[str] = []
        for word in (SECRET, "word", "more"):
            try:
                log.append(await self.desk.say(word))
            except PayloadError as error:
                log.append(str(error))
        return log

    async def stubborn(self) -> None:
        while True:
            with suppress(PayloadError):
                await self.desk.say(SECRET)


@pytest.mark.parametrize("blocking", [False, True])
def test_what_a_codec_has_refused_is_refused_in_replay_whatever_it_says_then(blocking: bool) -> None:  # S16
    async def main() -> list[str]:
        async with Simulation(codec=Picky(blocking=blocking), cache_size=0) as sim:
            sim.add_service(Desk())
            sim.add_workflow(Careful)
            return await sim.client.new_workflow(Careful).run()

    assert run(main()) == ["Picky cannot encode this payload: no secrets here", "drow", "erom"]


def test_code_that_asks_for_ever_for_what_its_codec_refuses_stalls() -> None:
    async def main() -> str | None:
        async with Simulation(codec=Picky(times=10**9)) as sim:
            sim.add_service(Desk())
            sim.add_workflow(Careful)
            handle = await sim.client.dispatch(sim.client.new_workflow(Careful).stubborn)
            await sim.run_until_idle()
            stalled = (await sim.client.describe(handle)).stalled
            await sim.client.terminate(handle, confirm=True)
            return stalled

    assert "The code asked for 10,001 things at once" in (run(main()) or "")


def test_another_key_stalls_the_workflow_and_says_so() -> None:
    async def main() -> None:
        async with Simulation(codec=Scramble(1)) as sim:
            sim.add_workflow(Secretive)
            async with Client(sim.transport, name="other", clock=sim.clock, codec=Scramble(2)) as client:
                await client.new_workflow(Secretive).run(SECRET)

    with pytest.raises(DeadlockError, match="got something else than arguments"):
        run(main())


@pytest.mark.parametrize("data", [b"1", b'"x"', b"[1,2]", b'{"a":1}', b"null"])
def test_what_was_written_without_a_codec_is_read_as_it_is(data: bytes) -> None:
    coder = Coder([Zip()])
    assert coder.decode(data) == data
    assert coder.decode(coder.encode(data)) == data


@pytest.mark.parametrize("wrong", [Zip, "zip", [Zip(), 1]])
def test_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises((UsageError, TypeError)):
        make_coder(wrong)


class Broken(PayloadCodec):
    """It returns what it should not."""

    def __init__(self, data: Any, headers: Mapping[Any, Any]) -> None:
        self._data, self._headers = data, headers

    def encode(self, data: bytes, headers: dict[Any, Any]) -> Any:
        headers.update(self._headers)
        return self._data

    def decode(self, data: bytes, headers: Mapping[str, str]) -> Any:
        return self._data


@pytest.mark.parametrize("data", [None, "text", 5, [b"x"]])
def test_a_codec_that_returns_no_bytes_is_named(data: Any) -> None:
    codec = Broken(data, {})
    with pytest.raises(PayloadError, match=r"Broken.encode has to return bytes, not \w+"):
        Coder([codec, Zip()]).encode(b"1")
    with pytest.raises(DecodingError, match=r"Broken.decode has to return bytes, not \w+"):
        Coder([codec]).decode(Coder([Broken(b"x", {})]).encode(b"1"))


@pytest.mark.parametrize("headers", [{"key": 5}, {"key": b"5"}, {5: "key"}, {"key": None}])
def test_headers_that_nobody_could_read_are_refused_at_the_call(headers: Mapping[Any, Any]) -> None:
    with pytest.raises(PayloadError, match=r"Broken.encode: headers have to be texts"):
        Coder([Broken(b"x", headers)]).encode(b"1")


def test_a_header_of_an_earlier_codec_cannot_be_changed() -> None:
    """Nobody could decode it: two keys in a chain, say, instead of two keys of one codec."""
    old, new = (AesGcm({name: name.encode() * 16}) for name in "ab")
    with pytest.raises(PayloadError, match=r"AesGcm.encode changes the header 'aes-gcm' of a codec before it"):
        Coder([old, new]).encode(b"1")
    assert Coder([new, new]).decode(Coder([new, new]).encode(b"1")) == b"1"


def test_a_coded_payload_that_was_changed_on_its_way_is_final() -> None:
    """Or it would be tried again for ever: a codec need not notice that bytes are missing."""
    coded = Coder([Zip()]).encode(b'"text"')
    for wrong in (coded.replace(b'"data":"', b'"data":"%'), coded[:-2], coded.replace(b'"data":"', b'"data":"=')):
        with pytest.raises(DecodingError, match="This is no coded payload"):
            Coder([Zip()]).decode(wrong)
