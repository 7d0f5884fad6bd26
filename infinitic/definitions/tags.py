"""Checks the tags and custom ids that users give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from infinitic.errors import UsageError
from infinitic.ids import check_name

MAX_TAGS = 64
"""How many tags an instance may have."""


def check_tags(what: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags in the order of the alphabet, each once.

    Args:
        what: who was given them, for errors: "new_workflow".
        tags: any number up to `MAX_TAGS`.

    Raises:
        UsageError: they are no set of texts, one of them cannot be a tag, or they are too many.
    """
    if isinstance(tags, str | bytes):
        raise UsageError(f"{what}(tags={tags!r}): tags are a set of texts, e.g. {{'eu'}}")
    try:
        given: list[Any] = list(tags)
    except TypeError:
        raise UsageError(f"{what}(tags={tags!r}): tags are a set of texts, e.g. {{'eu'}}") from None
    checked = sorted({check_name("A tag", tag) for tag in given})
    if len(checked) > MAX_TAGS:
        raise UsageError(f"{what}: an instance may have {MAX_TAGS} tags, got {len(checked)}")
    return tuple(checked)


def check_tag(tag: object) -> str:
    """Return a tag by which instances are addressed.

    Raises:
        UsageError: it cannot be a tag.
    """
    return check_name("A tag", tag)


def check_custom_id(custom_id: object) -> str:
    """Return a custom id.

    Raises:
        UsageError: it is not one text of 1 to 255 bytes of UTF-8.
    """
    if isinstance(custom_id, list | tuple | set | frozenset):
        raise UsageError(f"An instance has one custom id, which is a text, got {custom_id!r}; it may have many tags")
    return check_name("A custom id", custom_id)
