"""Messages to tag engines: their keys, and the versions of changes."""

from __future__ import annotations

import pytest

from infinitic.messages import tags
from infinitic.messages.decoding import UndecodableMessage


@pytest.mark.parametrize("name", ["eu", "t:eu", "c:", " ", "日本", "x" * 255, "\0"])
def test_a_key_says_tag_or_custom_id(name: str) -> None:
    assert tags.read_key(tags.make_tag_key(name)) == (name, False)
    assert tags.read_key(tags.make_custom_id_key(name)) == (name, True)


@pytest.mark.parametrize("key", [None, "", "t", "t:", "c:", "x:eu", "eu", "t:" + "x" * 256, "t:\ud800"])
def test_other_keys_are_refused(key: str | None) -> None:
    with pytest.raises(UndecodableMessage):
        tags.read_key(key)


def test_S31_versions_grow_with_what_happens_to_an_instance() -> None:
    """A client adds; a late start wins over a removal as unknown; each epoch adds and removes."""
    versions = [tags.ADDED_BY_CLIENT, tags.REMOVED_AS_UNKNOWN]
    versions += [each for epoch in range(5) for each in (tags.version_added(epoch), tags.version_removed(epoch))]
    assert versions == sorted(set(versions))


def test_S32_versions_of_custom_ids_grow_too() -> None:
    """The first claim has version 0: that of one who may attach."""
    versions = [each for epoch in range(5) for each in (tags.version_claimed(epoch), tags.version_freed(epoch))]
    assert versions == sorted(set(versions))
    assert versions[0] == 0


def test_a_name_in_a_message_is_bounded() -> None:
    with pytest.raises(UndecodableMessage):
        tags.decode(b'{"t":"add_tag","at":1.0,"i":""}')
    with pytest.raises(UndecodableMessage):
        tags.decode(b'{"t":"add_tag","at":1.0,"i":"' + "é".encode() * 200 + b'"}')
    with pytest.raises(UndecodableMessage):
        tags.decode(b'{"t":"add_tag","at":1.0,"i":"w","w":-1}')
