"""Loads the states of many instances at once. One that cannot be loaded leaves the others alone."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.storage import STORAGE_OUTAGES, StateKey, StateStorage, Stored

NOBODY = ""
"""The id of no instance. If even this one cannot be loaded, the storage as a whole fails."""


async def load_states(
    name: str, keys: Sequence[StateKey], states: StateStorage
) -> tuple[dict[StateKey, Stored], dict[StateKey, Exception]]:
    """Load states.

    Args:
        name: the workflow.
        keys: its instances.
        states: where they are.

    Returns:
        The states of these keys, and the errors of those that fail although the storage works.

    Raises:
        StorageError: the storage fails as a whole.
    """
    try:
        return await states.load(keys), {}
    except STORAGE_OUTAGES:
        raise
    except Exception:  # noqa: BLE001 (raised anew for the keys that it is about)
        await states.load([StateKey(name, NOBODY)])
    stored: dict[StateKey, Stored] = {}
    broken: dict[StateKey, Exception] = {}
    for key in keys:
        try:
            stored |= await states.load([key])
        except STORAGE_OUTAGES:
            raise
        except Exception as error:  # noqa: BLE001 (one bad key leaves the others alone)
            broken[key] = error
    return stored, broken
