"""Credentials that have something to keep, such as a token that changes with each use.

What was kept is borrowed before it is used, so that no two relays use the same token; what is new is kept before it is
used, so that it outlives this process. A process that dies between the token service's answer and the keeping has lost
the new token: only a token service that takes the old one once more helps then, or the operator with a new one.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from relay.core.flow import JsonValue, NoAnswer, NotReached
from relay.core.vendor import Credentials
from relay.ports import Keeper, StoreUnavailable

RENEWAL = 60.0
"""Seconds that a renewal may take."""
HOLD = RENEWAL + 30.0
"""Seconds for which the values are borrowed: a renewal and its keeping."""
ASK_AGAIN = 0.25

Renew: TypeAlias = Callable[[JsonValue], Awaitable[Credentials]]
"""Makes credentials of what was kept, None for nothing."""


@dataclass(frozen=True, slots=True)
class _Unkept:
    """New values that the store did not take, and those that they were made from."""

    values: JsonValue = field(repr=False)
    made_from: JsonValue = field(repr=False)


class Remembered:
    """What one connection's credentials have to keep. `patience`: seconds to wait for another relay that has it."""

    def __init__(self, keeper: Keeper, connection: str, patience: float) -> None:
        self._keeper = keeper
        self._connection = connection
        self._patience = patience
        self._holder = secrets.token_hex(8)
        self._unkept: _Unkept | None = None

    async def renewed(self, renew: Renew) -> Credentials:
        """Credentials whose `keep` is kept. Raises what `renew` raises, and NotReached where nothing can be kept."""
        try:
            values = await self._borrowed()
            try:
                return await self._renewed(await self._caught_up(values), renew)
            finally:
                with suppress(StoreUnavailable):  # then it lapses
                    await self._keeper.release(self._connection, self._holder)
        except StoreUnavailable as error:
            raise NotReached(f"what its credentials must remember cannot be kept: {error}") from error

    async def _borrowed(self) -> JsonValue:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience
        while (lent := await self._keeper.borrow(self._connection, self._holder, HOLD)) is None:
            if loop.time() >= give_up:
                raise NotReached("another relay has been renewing the credentials all this time")
            await asyncio.sleep(ASK_AGAIN)
        return lent.values

    async def _caught_up(self, values: JsonValue) -> JsonValue:
        """The values after what the store could not take the last time is kept, if nobody went another way since."""
        unkept = self._unkept
        if unkept is not None and values == unkept.made_from:
            await self._keep(unkept)
            values = unkept.values
        self._unkept = None
        return values

    async def _renewed(self, values: JsonValue, renew: Renew) -> Credentials:
        try:
            async with asyncio.timeout(RENEWAL):
                credentials = await renew(values)
        except TimeoutError as error:
            raise NoAnswer(f"to be let in took longer than {RENEWAL:g} s") from error
        if credentials.keep is not None and credentials.keep != values:
            self._unkept = _Unkept(credentials.keep, values)
            await self._keep(self._unkept)
            self._unkept = None
        return credentials

    async def _keep(self, unkept: _Unkept) -> None:
        if not await self._keeper.keep(self._connection, self._holder, unkept.values):
            self._unkept = None
            raise NotReached("the renewal took so long that another relay has begun one")
