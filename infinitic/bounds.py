"""Types for the fields of messages, state and history that say how large these can be.

The decoder checks them, which costs almost nothing. Whoever constructs a value is not checked.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_NAME_BYTES = 255
"""Bytes of UTF-8 of a name or an id: they become topics and keys."""
MAX_NUMBER = 2**53 - 1
"""The largest whole number in a message: what every program and every database can hold."""
MAX_SECONDS = 1e12
"""The longest duration and the latest instant in a message: 30,000 years."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_BYTES)]
"""A name or an id.

The decoder counts its characters. `messages.decoding` counts its bytes where these are more.
"""
NoName = Annotated[str, Meta(max_length=MAX_NAME_BYTES)]
"""A name or an id that may be empty."""
Whole = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
"""A whole number that counts something."""
Seconds = Annotated[float, Meta(ge=0.0, le=MAX_SECONDS)]
"""Seconds, or an instant in seconds since the Unix epoch."""
