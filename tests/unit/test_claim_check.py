"""Large payloads are kept outside: the codec, and the store in a directory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infinitic import DecodingError, PayloadUnavailable, UsageError
from infinitic.codec.payloads import Coder
from infinitic.codecs.aes_gcm import AesGcm
from infinitic.codecs.claim_check import ClaimCheck
from infinitic.codecs.files import FileStore
from infinitic.codecs.store import MemoryStore, ObjectStore

SMALL, LARGE = b"s" * 1000, b"L" * 1001
NAME = sha256(LARGE).hexdigest()


def list_files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_only_large_payloads_are_kept_outside(tmp_path: Path) -> None:
    coder = Coder([ClaimCheck(tmp_path, above_bytes=1000)])
    small, large = coder.encode(SMALL), coder.encode(LARGE)
    assert list_files(tmp_path) == [f"{NAME[:2]}/{NAME}"]
    assert msgspec.json.decode(large) == {"$coded": {"claim-check": NAME}, "data": ""}
    assert coder.decode(small) == SMALL
    assert coder.decode(large) == LARGE
    assert Coder([ClaimCheck(str(tmp_path))]).decode(large) == LARGE, "whatever its own limit is"
    assert coder.decode(b'"earlier"') == b'"earlier"'


def test_the_same_payload_is_the_same_object(tmp_path: Path) -> None:
    coder = Coder([ClaimCheck(tmp_path, above_bytes=0)])
    assert coder.encode(LARGE) == coder.encode(LARGE)
    assert len(list_files(tmp_path)) == 1


def test_behind_encryption_nothing_readable_is_kept(tmp_path: Path) -> None:
    coder = Coder([AesGcm({"a": bytes(32)}), ClaimCheck(tmp_path, above_bytes=100)])
    coded = coder.encode(LARGE)
    (name,) = list_files(tmp_path)
    assert b"LLLL" not in (tmp_path / name).read_bytes()
    assert coder.decode(coded) == LARGE


def test_an_object_that_is_missing_or_was_changed_is_named(tmp_path: Path) -> None:
    coder = Coder([ClaimCheck(tmp_path, above_bytes=0)])
    coded = coder.encode(LARGE)
    path = tmp_path / NAME[:2] / NAME
    path.write_bytes(LARGE + b"!")
    with pytest.raises(
        DecodingError, match=rf"ClaimCheck cannot decode .* the object {NAME} in FileStore\('.*was changed"
    ):
        coder.decode(coded)
    path.unlink()
    with pytest.raises(DecodingError, match=rf"the object {NAME} is missing from FileStore\('"):
        coder.decode(coded)
    for wrong in ("../../etc/passwd", NAME.upper(), NAME + "0"):
        with pytest.raises(DecodingError, match="is not the name of an object"):
            coder.decode(coded.replace(NAME.encode(), wrong.encode()))


def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Not mounted: an object is not missing then."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    coder = Coder([ClaimCheck(directory, above_bytes=0)])
    coded = coder.encode(LARGE)
    directory.rename(tmp_path / "away")
    with pytest.raises(PayloadUnavailable, match="cannot decode a payload now"):
        coder.decode(coded)
    with pytest.raises(PayloadUnavailable, match="cannot encode a payload now"):
        coder.encode(LARGE)
    (tmp_path / "away").rename(directory)
    assert coder.decode(coded) == LARGE


WRITER = """
import sys
from hashlib import sha256
from infinitic.codecs.files import FileStore

store, number = FileStore(sys.argv[1]), 0
while True:
    number += 1
    data = number.to_bytes(4, "big") * 500_000
    store.put(sha256(data).hexdigest(), data)
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_no_half_of_an_object(tmp_path: Path) -> None:
    """Whenever it dies: what has the name of an object is the whole object."""
    said = 0
    for tries in range(1, 4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(tries):
            said = max(said, int(writer.stdout.readline()))
        writer.kill()
        writer.communicate()
    store = FileStore(tmp_path)
    written = [name for name in list_files(tmp_path) if not name.endswith(".part")]
    assert len(written) >= said
    for name in written:
        assert sha256((tmp_path / name).read_bytes()).hexdigest() == name[3:]
    # What the killed ones have begun is removed with the rest.
    everything = len(list_files(tmp_path))
    assert store.remove_unused(-10) == everything
    assert list_files(tmp_path) == []


def test_a_file_of_another_size_is_written_again(tmp_path: Path) -> None:
    """What was cut off, by a full disk of long ago for instance."""
    store = FileStore(tmp_path)
    store.put(NAME, LARGE)
    path = tmp_path / NAME[:2] / NAME
    path.write_bytes(LARGE[:10])
    store.put(NAME, LARGE)
    assert store.get(NAME) == LARGE


class ForeignStore(FileStore):
    """Its directories are those of another user, and closed for this one."""

    __slots__ = ()

    def _find_path(self, name: str) -> Path:
        return ForeignPath(super()._find_path(name))


class ForeignPath(type(Path())):  # type: ignore[misc]  # the class of this system, which is no constant
    __slots__ = ()

    def stat(self, **options: Any) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))


def test_what_cannot_be_looked_at_is_not_taken_for_kept(tmp_path: Path) -> None:
    """Nobody would notice before the payload is needed, and then it would be missing."""
    with pytest.raises(PermissionError):
        ForeignStore(tmp_path).put(NAME, LARGE)
    with pytest.raises(PayloadUnavailable, match="Permission denied"):
        Coder([ClaimCheck(ForeignStore(tmp_path), above_bytes=0)]).encode(LARGE)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")
def test_the_file_of_another_user_is_written_again_or_it_would_be_removed_too_early(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put(NAME, LARGE)
    path = tmp_path / NAME[:2] / NAME
    os.utime(path, (1.0, 1.0))
    for each in (tmp_path, path.parent):
        each.chmod(0o777)
    program = f"""
import os
from infinitic.codecs.files import FileStore
os.chdir({str(tmp_path)!r})  # the directories above are closed for other users
os.setuid(65534)
FileStore(".").put({NAME!r}, b"L" * 1001)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert store.remove_unused(1000.0) == 0
    assert store.get(NAME) == LARGE


def test_many_writers_of_one_object(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(store.put, NAME, LARGE) for _ in range(100)]:
            each.result()
    assert list_files(tmp_path) == [f"{NAME[:2]}/{NAME}"]
    assert store.get(NAME) == LARGE


def test_what_nobody_reads_or_writes_any_more_is_removed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    objects = {sha256(data).hexdigest(): data for data in (b"unused", b"read", b"written", b"new")}
    unused, read, written, new = objects
    for name, data in objects.items():
        store.put(name, data)
    for name in (unused, read, written):
        os.utime(tmp_path / name[:2] / name, (1, 1))
    assert store.get(read) == b"read"
    store.put(written, b"written")
    assert store.remove_unused(3600) == 1
    assert store.get(unused) is None
    assert [store.get(name) for name in (read, written, new)] == [b"read", b"written", b"new"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("/no/such/directory",), "/no/such/directory is not a directory: make it, or mount it"),
        ((7,), "takes an ObjectStore or a directory, got 7"),
        ((MemoryStore(), -1), "above_bytes must be a whole number of bytes, got -1"),
        ((MemoryStore(), True), "got True"),
        ((MemoryStore(), "1 MB"), "got '1 MB'"),
    ],
)
def test_what_cannot_be_a_claim_check_is_said(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClaimCheck(*arguments)


class Seen(ObjectStore):
    """Notes in which threads it is called."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.threads: set[int] = set()

    def put(self, name: str, data: bytes) -> None:
        self.threads.add(threading.get_ident())
        self.inner.put(name, data)

    def get(self, name: str) -> bytes | None:
        self.threads.add(threading.get_ident())
        return self.inner.get(name)


def test_it_does_not_hold_up_the_event_loop() -> None:
    store = Seen()
    coder = Coder([AesGcm({"a": bytes(32)}), ClaimCheck(store, above_bytes=0)])

    async def main() -> bytes:
        return await coder.decode_outside(await coder.encode_outside(LARGE))

    assert asyncio.run(main()) == LARGE
    assert threading.get_ident() not in store.threads
    quick = Coder([AesGcm({"a": bytes(32)})])
    assert asyncio.run(quick.encode_outside(LARGE)) != LARGE
