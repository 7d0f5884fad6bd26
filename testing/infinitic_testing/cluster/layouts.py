"""Which worker hosts what: the seats of a run, drawn from the seed.

A seat is a place for a worker. If its worker ends, the next one takes the seat, and hosts the same.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from infinitic.runtime.memory_bounds import DEFAULT_BUFFER_BYTES, DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE
from infinitic_testing.choices import Choices

LAYOUTS = ("one", "two", "split", "mixed")
"""The kinds of layouts.

- "one": one worker hosts everything.
- "two": two workers host everything.
- "split": state engines, workflow code and services are on different workers. So are tag engines,
  or they are with the services.
- "mixed": one worker hosts everything, two others a part of it.
"""


class Role(Enum):
    """What a worker can do for something that was added to a simulation."""

    SERVICE = "service"
    ENGINE = "engine"
    CODE = "code"
    TAGS = "tags"


EVERYTHING = frozenset(Role)


class SeatSettings(msgspec.Struct, frozen=True):
    """The arguments of the workers of one seat.

    Attributes:
        cache_size: as for `Worker`.
        cache_bytes: as for `Worker`.
        buffer_bytes: as for `Worker`.
        shutdown_grace_period: in seconds, as for `Worker`.
        concurrency: how many instances of a workflow are worked on at once, at most. None: as many
            as the test says.
    """

    cache_size: int = DEFAULT_CACHE_SIZE
    cache_bytes: int = DEFAULT_CACHE_BYTES
    buffer_bytes: int = DEFAULT_BUFFER_BYTES
    shutdown_grace_period: float = 30.0
    concurrency: int | None = None


class Seat:
    """A place for a worker.

    Attributes:
        number: of this seat, from 0.
        settings: for its workers.
        has_old_code: true if its workers lack the newest version of each workflow.

    Args:
        number: of this seat.
        roles: what its workers do. None: drawn anew for each thing that is added.
        settings: for its workers.
        choices: of the run.
    """

    def __init__(self, number: int, roles: frozenset[Role] | None, settings: SeatSettings, choices: Choices) -> None:
        self.number = number
        self.settings = settings
        self.has_old_code = False
        self._roles = roles
        self._choices = choices
        # What was drawn for each thing that was added, by its number.
        self._drawn: dict[int, frozenset[Role]] = {}

    def may_have(self, role: Role) -> bool:
        """True if its workers may have this role."""
        return self._roles is None or role in self._roles

    def roles_for(self, added: int) -> frozenset[Role]:
        """Return what the workers of this seat do for something that was added.

        Args:
            added: how many things were added before it.
        """
        if self._roles is not None:
            return self._roles
        drawn = self._drawn.get(added)
        if drawn is None:
            parts = [role for role in Role if self._choices.happens(f"layout/{role.value}", 0.5)]
            drawn = self._drawn[added] = frozenset(parts)
        return drawn


def draw_seats(choices: Choices, *, cache_size: int | None, old_code: bool) -> tuple[str, list[Seat]]:
    """Draw the layout of a run.

    Args:
        choices: of the run. The plain choice is one worker with ordinary settings.
        cache_size: of all workers. None: drawn for each seat.
        old_code: some workers lack the newest versions, if others have them.

    Returns:
        The kind of layout, and its seats. The workers of all seats together host everything.
    """
    kind = LAYOUTS[choices.pick("layout", len(LAYOUTS))]
    roles: list[frozenset[Role] | None]
    match kind:
        case "one":
            roles = [EVERYTHING]
        case "two":
            roles = [EVERYTHING, EVERYTHING]
        case "split":
            roles = [frozenset({role}) for role in (Role.ENGINE, Role.CODE, Role.SERVICE)]
            if choices.happens("layout/tags-alone", 0.5):
                roles.append(frozenset({Role.TAGS}))
            else:
                roles[2] = frozenset({Role.SERVICE, Role.TAGS})
            roles += [frozenset({role}) for role in Role if choices.happens("layout/second", 0.4)]
        case _:
            roles = [EVERYTHING, None, None]
    seats = [Seat(number, each, _draw_settings(choices, cache_size), choices) for number, each in enumerate(roles)]
    if old_code:
        # The first seat with workflow code keeps all versions.
        for seat in [seat for seat in seats if seat.may_have(Role.CODE)][1:]:
            seat.has_old_code = True
    return kind, seats


def _draw_settings(choices: Choices, cache_size: int | None) -> SeatSettings:
    sizes = (DEFAULT_CACHE_SIZE, 0, 1)
    return SeatSettings(
        cache_size=sizes[choices.pick("layout/cache", len(sizes))] if cache_size is None else cache_size,
        cache_bytes=2_000 if choices.happens("layout/cache_bytes", 0.2) else DEFAULT_CACHE_BYTES,
        buffer_bytes=2_000 if choices.happens("layout/buffer_bytes", 0.2) else DEFAULT_BUFFER_BYTES,
        shutdown_grace_period=0.5 if choices.happens("layout/grace", 0.3) else 30.0,
        concurrency=1 + choices.pick("layout/few", 3) if choices.happens("layout/concurrency", 0.25) else None,
    )
