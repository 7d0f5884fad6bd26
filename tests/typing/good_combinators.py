"""`|`, `&`, `any_of` and `all_of`, of deferreds and receivers. Only checked, see `shop`."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

from infinitic import Deferred, all_of, any_of
from tests.typing.shop import Flight, Hotel, Request, Trip


class Code(Trip):
    async def operators(self, request: Request) -> None:
        flight = self.dispatch(self.flights.book, request)
        hotel = self.dispatch(self.hotels.book, request)
        answer = self.approvals.receive()

        assert_type(flight | hotel, Deferred[Flight | Hotel])
        assert_type(flight | flight, Deferred[Flight])
        assert_type(flight | answer, Deferred[Flight | bool])
        assert_type(answer | self.timer(60), Deferred[bool | datetime])
        assert_type(answer | answer, Deferred[bool])
        assert_type(flight | hotel | answer, Deferred[Flight | Hotel | bool])
        assert_type(await (flight | hotel), Flight | Hotel)

        assert_type(flight & hotel, Deferred[tuple[Flight, Hotel]])
        assert_type(flight & answer, Deferred[tuple[Flight, bool]])
        assert_type(answer & flight, Deferred[tuple[bool, Flight]])
        assert_type((flight & hotel) | self.timer(60), Deferred[tuple[Flight, Hotel] | datetime])
        assert_type((flight | hotel) & answer, Deferred[tuple[Flight | Hotel, bool]])

        won = await (answer | self.timer(60))
        if isinstance(won, datetime):
            assert_type(won, datetime)
        else:
            assert_type(won, bool)

    async def functions(self, request: Request) -> None:
        flight = self.dispatch(self.flights.book, request)
        hotel = self.dispatch(self.hotels.book, request)
        price = self.dispatch(self.hotels.stars, Hotel(""))
        answer = self.approvals.receive()
        timer = self.timer(60)

        assert_type(any_of(flight), Deferred[Flight])
        assert_type(any_of(flight, hotel), Deferred[Flight | Hotel])
        assert_type(any_of(flight, hotel, answer), Deferred[Flight | Hotel | bool])
        assert_type(any_of(flight, hotel, answer, timer), Deferred[Flight | Hotel | bool | datetime])
        assert_type(any_of(flight, hotel, answer, timer, price), Deferred[Flight | Hotel | bool | datetime | int])
        assert_type(await any_of(flight, any_of(hotel, answer)), Flight | Hotel | bool)

        assert_type(all_of(flight), Deferred[list[Flight]])
        assert_type(all_of(flight, hotel), Deferred[tuple[Flight, Hotel]])
        assert_type(all_of(flight, hotel, answer), Deferred[tuple[Flight, Hotel, bool]])
        assert_type(all_of(flight, hotel, answer, timer), Deferred[tuple[Flight, Hotel, bool, datetime]])
        assert_type(all_of(flight, hotel, answer, timer, price), Deferred[tuple[Flight, Hotel, bool, datetime, int]])
        one, (two, three) = await all_of(flight, all_of(hotel, answer))
        assert_type(one, Flight)
        assert_type(two, Hotel)
        assert_type(three, bool)

    async def by_context(self, request: Request) -> Flight | Hotel:
        """An expected type does not disturb."""
        flight = self.dispatch(self.flights.book, request)
        hotel = self.dispatch(self.hotels.book, request)
        either: Deferred[Flight | Hotel] = any_of(flight, hotel)
        assert_type(await either, Flight | Hotel)
        either = flight | hotel
        both: Deferred[tuple[Flight, Hotel]] = all_of(flight, hotel)
        assert_type(await both, tuple[Flight, Hotel])
        if request.nights:
            return await any_of(flight, hotel)
        return await (flight | hotel)

    async def any_number(self, requests: list[Request]) -> list[Flight]:
        flights = [self.dispatch(self.flights.book, request) for request in requests]
        assert_type(any_of(*flights), Deferred[Flight])
        assert_type(all_of(*flights), Deferred[list[Flight]])
        nothing: Deferred[list[int]] = all_of()
        await nothing
        return await all_of(*flights)
