"""Tokens that rotate, by several relays on one store: none is used twice, none is lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from relay.core.flow import Flow, NotLetIn, NotReached, Request, Response
from relay.core.vendor import Connection
from relay.edges.http import VendorDriver, VendorLink, kept
from relay.edges.store import ScriptedStore
from relay.ports import Borrowed, StoreUnavailable
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from relay.vendors.trifacta import VENDOR
from tests.edges.store.conftest import Engine

NAME = "tri"
FIRST = "the-first-refresh-token"


@dataclass
class Relays:
    """Drivers on one store, as relays have them."""

    engine: Engine
    vendor: TrifactaSimulator
    stores: list[ScriptedStore]
    drivers: list[VendorDriver] = field(default_factory=list)
    refresh_token: str = FIRST

    def driver(self, keeper: Any = None) -> VendorDriver:
        """One more relay."""
        store = keeper or self.stores[len(self.drivers) % len(self.stores)]
        link = VendorLink(connection=self.connection(NAME), vendor=VENDOR, timeout=10.0)
        self.drivers.append(VendorDriver([link], keeper=store, reread=self.settings_now))
        return self.drivers[-1]

    def connection(self, name: str) -> Connection:
        """The connection, as the settings have it now."""
        token_url = f"{self.vendor.url}/oauth/token"
        oauth = {"clientId": "client", "refreshToken": self.refresh_token, "tokenUrl": token_url}
        options = VENDOR.options.model_validate({"oauth": oauth})
        return Connection(name=name, vendor=VENDOR.name, base_url=self.vendor.url, options=options)

    async def settings_now(self, name: str) -> Connection:
        """The same, as it is read anew."""
        return self.connection(name)

    async def restarted(self) -> None:
        """All of them end, and the store is opened anew."""
        for driver in self.drivers:
            await driver.close()
        self.drivers.clear()
        again: Any = await self.engine.reopened()
        self.stores = [again]


@pytest.fixture
async def relays(engine: Engine) -> AsyncIterator[Relays]:
    """Relays that have not begun."""
    stores: list[Any] = [await engine.open() for _ in range(1 if engine.alone else 2)]
    async with TrifactaSimulator(refresh_token=FIRST) as vendor:
        relays = Relays(engine, vendor, stores)
        yield relays
        for driver in relays.drivers:
            await driver.close()


def look() -> Flow[Response]:
    """A question that only those may ask who are let in."""
    return (yield Request(method="GET", path="/v4/jobLibrary"))


async def asked(*drivers: VendorDriver, times: int = 1) -> Sequence[int]:
    """What each of them is answered, all at once."""
    answers = await asyncio.gather(*(driver.run(NAME, look()) for driver in drivers for _ in range(times)))
    return [answer.status for answer in answers]


async def test_of_many_relays_one_trades_the_token(relays: Relays) -> None:
    """Whoever comes meanwhile waits, and uses what it got."""
    drivers = [relays.driver() for _ in range(4)]
    statuses = await asked(*drivers, times=5)

    assert [200] * 20 == statuses
    assert relays.vendor.refreshes == 1


async def test_a_refused_access_token_is_renewed_once_for_all(relays: Relays) -> None:
    """Each of them hears the no, and only the first trades: the others find that another one is there already."""
    drivers = [relays.driver() for _ in range(3)]
    await asked(*drivers)
    relays.vendor.forget_access_tokens()
    statuses = await asked(*drivers, times=3)

    assert [200] * 9 == statuses
    assert relays.vendor.refreshes == 2


async def test_the_chain_goes_on_from_one_relay_to_the_next(relays: Relays) -> None:
    """Whoever trades uses the newest token, whoever got that."""
    drivers = [relays.driver() for _ in range(2)]
    for turn in range(6):
        relays.vendor.forget_access_tokens()

        assert [200] == await asked(drivers[turn % 2])
    assert relays.vendor.refreshes == 6


async def test_a_restart_spends_no_token(relays: Relays) -> None:
    """The access token is kept as well; and when it ends, the chain goes on where it was."""
    await asked(relays.driver())
    await relays.restarted()
    at_once = await asked(relays.driver())
    spent = relays.vendor.refreshes
    relays.vendor.forget_access_tokens()
    later = await asked(*relays.drivers)

    assert ([200], 1, [200], 2) == (at_once, spent, later, relays.vendor.refreshes)


async def test_a_token_that_the_operator_replaces_wins(relays: Relays) -> None:
    """After a chain has broken, or before, another configured token begins a new one, without a restart."""
    driver = relays.driver()
    await asked(driver)
    relays.vendor.refresh_token = "a-token-of-another-pair"
    relays.vendor.forget_access_tokens()
    with pytest.raises(NotLetIn, match=r"connections\.tri\.oauth\.refreshToken"):
        await asked(driver)
    relays.refresh_token = "a-token-of-another-pair"

    assert [200] == await asked(driver)


@pytest.mark.parametrize("harm", ["down", "reset", "busy"])
async def test_a_token_service_in_trouble_costs_no_token(relays: Relays, harm: Any) -> None:
    """Nothing was sent to the vendor, and the next try trades the same token."""
    relays.vendor.faults.add(Fault(on="token", harm=harm))
    driver = relays.driver()
    with pytest.raises(NotReached):
        await asked(driver)

    assert [200] == await asked(driver)
    assert relays.vendor.refreshes == 1


class Troubled:
    """A store that is away just when something is to be kept."""

    def __init__(self, store: ScriptedStore, *, lost: bool) -> None:
        self.store = store
        self.troubles = 1
        self.lost = lost

    async def borrow(self, connection: str, holder: str, hold: float) -> Borrowed | None:
        return await self.store.borrow(connection, holder, hold)

    async def keep(self, connection: str, holder: str, values: Any) -> bool:
        if not self.troubles:
            return await self.store.keep(connection, holder, values)
        self.troubles -= 1
        if self.lost:  # its answer is
            await self.store.keep(connection, holder, values)
        raise StoreUnavailable("the disk is full")

    async def release(self, connection: str, holder: str) -> None:
        await self.store.release(connection, holder)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_store_that_is_away_costs_no_token(relays: Relays, lost: bool) -> None:
    """What could not be kept is not used; it is kept and used at the next try, and not traded again."""
    driver = relays.driver(Troubled(relays.stores[0], lost=lost))
    with pytest.raises(NotReached, match="the disk is full"):
        await asked(driver)
    used_before_it_was_kept = relays.vendor.ledger.requests["library"]
    statuses = await asked(driver)

    assert (0, [200], 1) == (used_before_it_was_kept, statuses, relays.vendor.refreshes)
    assert [200] == await asked(relays.driver())
    assert relays.vendor.refreshes == 1


async def test_who_was_silent_too_long_uses_nothing(relays: Relays) -> None:
    """A relay whose time has passed while it traded keeps and uses nothing: another has borrowed the token since."""
    relays.vendor.faults.add(Fault(on="token", harm="slow", seconds=0.3))
    driver = relays.driver()
    slow = asyncio.create_task(asked(driver))
    await relays.vendor.ledger.until(lambda ledger: ledger.requests["token"] == 1)
    relays.engine.tick(1000.0)
    other = await relays.stores[-1].borrow(NAME, "another", 30.0)
    with pytest.raises(NotReached, match="another relay has begun one"):
        await slow

    assert other is not None
    assert relays.vendor.ledger.requests["library"] == 0


async def test_a_trade_ends_before_its_time_has_passed(relays: Relays, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token service that does not answer is left alone while the token is still lent to nobody else."""
    monkeypatch.setattr(kept, "RENEWAL", 0.2)
    relays.vendor.faults.add(Fault(on="token", harm="slow", seconds=60.0))
    with pytest.raises(NotReached, match="took longer than"):
        await asked(relays.driver())

    assert kept.RENEWAL < kept.HOLD
    assert await relays.stores[-1].borrow(NAME, "another", 30.0) is not None


async def test_who_waits_for_another_relay_waits_only_so_long(relays: Relays) -> None:
    """A job is better told that it must wait than kept without a word."""
    await relays.stores[0].borrow(NAME, "another", 30.0)
    link = VendorLink(connection=relays.connection(NAME), vendor=VENDOR, timeout=0.3)
    driver = VendorDriver([link], keeper=relays.stores[0])
    relays.drivers.append(driver)
    with pytest.raises(NotReached, match="another relay has been renewing"):
        await asked(driver)

    assert relays.vendor.refreshes == 0


class Slow(Troubled):
    """A store that takes its time to keep."""

    def __init__(self, store: ScriptedStore) -> None:
        super().__init__(store, lost=False)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def keep(self, connection: str, holder: str, values: Any) -> bool:
        self.asked.set()
        await self.go_on.wait()
        return await self.store.keep(connection, holder, values)


async def test_a_driver_that_closes_keeps_what_it_was_given(relays: Relays) -> None:
    """A relay that stops in the middle of a trade loses no token."""
    keeper = Slow(relays.stores[0])
    driver = relays.driver(keeper)
    asking = asyncio.create_task(asked(driver))
    await keeper.asked.wait()
    asking.cancel()
    closing = asyncio.create_task(driver.close())
    await asyncio.wait([asking])
    keeper.go_on.set()
    await closing

    assert [200] == await asked(relays.driver())
    assert relays.vendor.refreshes == 1
