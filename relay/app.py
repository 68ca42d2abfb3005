"""The composition root: the only file that knows everyone. It builds the edges, the stages and the vendors, runs
them in one task group, and drains them on stop.
"""

import asyncio
import contextlib
import errno
import gc
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, get_args

import structlog
from prometheus_client import generate_latest
from pydantic import ValidationError

from relay import entropy, failpoints, log
from relay.core.egress import EgressPolicy, check_url
from relay.core.job import Job, ulid
from relay.core.vendor import OPERATIONS, Account, Connection, Vendor
from relay.edges.amqp import Broker, Topology
from relay.edges.http import Fetch, Reread, TlsFiles, VendorDriver, VendorLink, WebhookSender
from relay.edges.store import ScriptedStore, open_store
from relay.edges.vault import KEY_RECIPE, KeyRefused, Vault, key_beside
from relay.edges.web import ApiToken, Doors, Server
from relay.messages import complaints_of, wire_name
from relay.metrics import Metrics
from relay.ports import (
    Census,
    Claimed,
    Condition,
    Delivery,
    Keeper,
    StoredCallback,
    StoreUnavailable,
    Subscription,
    Trial,
)
from relay.settings import RESERVED, Amqp, ConnectionSettings, Settings, SettingsError, SubscriptionSettings, Tls
from relay.stages.accept import Accept, ReplyPolicy
from relay.stages.announce import Announce
from relay.stages.callbacks import Callbacks
from relay.stages.greet import greet
from relay.stages.loop import Capacity, Loop
from relay.stages.receive import Receive
from relay.stages.record import EXCHANGE_LANE, Recorder
from relay.stages.subscriptions import Configured, SubscriptionBook
from relay.stages.work import Work
from relay.vendors import VENDORS
from relay.vendors.declared import Mistakes, vendor_of

logger = structlog.get_logger()

NOT_BY_DEFAULT = frozenset({"delete", "archive"})
"""Operations that a connection has only where its settings name them."""
CONVERSATION = 3
"""A vendor conversation may take this many times its connection's request timeout."""
CONFIRMS = 200
"""Publishes that may await their confirm at once."""
RECEIVERS = Capacity(total=256, per_lane=64, act_timeout=90.0, fair=True)
SWEEP_EVERY = 60.0
BEAT_EVERY = 5.0
"""Seconds between this relay's signs of life to the others on its store."""
REREAD_EVERY = 2.0
"""Seconds between looks whether what the settings say of targets is as it was: two must agree within 5 s."""
REREAD_PATIENCE = 10.0
"""Seconds in which the settings must be read again before a login, which else goes by those that are known."""
LAG_EVERY = 1.0
GC_THRESHOLD = 50_000

STORE_PATIENCE = 3.0
"""Seconds in which the store must answer whoever asks whether relay is ready."""
LONGEST_ANSWER = 10.0
"""Seconds that a request over HTTP may still take once relay stops."""

Reload: TypeAlias = Callable[[], Settings]
"""Reads the settings anew, for secrets that were replaced in their files."""


class Relay:
    """One running relay. Use `async with Relay.opened(settings) as relay`, then `await relay.run()`."""

    def __init__(
        self, settings: Settings, vault: Vault, store: ScriptedStore, metrics: Metrics, reload: Reload | None
    ) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.kinds = vendors_of(settings)
        self.accounts = accounts_of(settings, self.kinds)
        self._reload = reload
        self._aside = ThreadPoolExecutor(2, thread_name_prefix="aside")
        """For the settings and the metrics: in the loop's own threads they would wait behind lookups that hang."""
        self._reading: asyncio.Future[Settings] | None = None
        self._scraping = asyncio.Lock()
        self._stop = asyncio.Event()
        self._draining = False
        self._hung_up = asyncio.Event()
        self._waiting: Sequence[str] | None = ()
        self.callbacks = Callbacks(vault.derive, settings.http.public_url)
        policy = policy_of(settings)
        self.sender = WebhookSender(policy, time.time)
        self.vendors = _driver(settings, self.accounts, self._reread if reload else None, self.sender.fetch, store)
        self._build_stages(policy)
        patience = min(LONGEST_ANSWER, settings.shutdown_timeout)
        self.server = Server(self._doors(), settings.http.host, settings.http.port, shutdown_timeout=patience)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, settings: Settings, reload: Reload | None = None) -> AsyncIterator["Relay"]:
        """A relay on its store. `reload` reads the settings anew. Closes everything that it opened."""
        check(settings)
        _warn_of_proxies(settings)
        vault = vault_of(settings)
        metrics = Metrics()

        def observe(size: int, seconds: float) -> None:
            metrics.group_size.observe(size)
            metrics.commit_seconds.observe(seconds)

        store = await open_store(settings.database.url.get_secret_value(), vault, observe=observe)
        try:
            relay = cls(settings, vault, store, metrics, reload)
            try:
                yield relay
            finally:
                await relay._close()
        finally:
            await store.close()

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Work until `stop` is called. `started` is called once HTTP is served. Raises SettingsError where it
        cannot be, before anything is taken."""
        await self.subscriptions.load()
        await self._listen()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop.run()) for loop in (self.work_loop, self.receive_loop, self.announce_loop)]
            tasks += [
                group.create_task(act())
                for act in (self._sweep, self._share_limits, self._watch_lag, self.receive.match)
            ]
            tasks.append(group.create_task(self.subscriptions.run()))
            if self._reload is not None:
                tasks.append(group.create_task(self._reread_settings(self._reload)))
            if self.broker is not None:
                tasks.append(group.create_task(self.broker.run()))
            logger.info("relay.started", url=self.server.url, connections=sorted(self.accounts))
            started()
            try:
                await self._stop.wait()
            finally:  # also where a task has failed: what is under way is answered once, and would be in doubt
                await self._drain()
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """Begin to drain: take nothing more, finish what is under way, then `run` returns."""
        self._stop.set()

    def look_again(self) -> None:
        """Read the settings at once, and tell what came of it, though it was told before."""
        self._hung_up.set()

    async def _listen(self) -> None:
        try:
            await self.server.start()
        except OSError as error:
            http = self.settings.http
            raise SettingsError(f"http: cannot listen at {http.host}:{http.port}: {_unheard(error)}") from error

    async def _close(self) -> None:
        await self.server.stop()
        await self.vendors.close()
        await self.sender.close()
        self._aside.shutdown(wait=False)

    # --- building ---

    def _build_stages(self, policy: EgressPolicy) -> None:
        settings, store = self.settings, self.store
        timeout = max((each.timeout for each in settings.connections.values()), default=60.0)
        workers = Capacity(
            total=settings.concurrency, per_lane=settings.concurrency, act_timeout=CONVERSATION * timeout
        )
        places = {name: each.max_in_flight for name, each in self.accounts.items() if each.max_in_flight is not None}
        self.work_loop: Loop[Job] = Loop("work", workers, store.claim, _jobs, places=places)
        self.receive_loop: Loop[StoredCallback] = Loop("receive", workers, store.claim, _callbacks)
        self.announce_loop: Loop[Delivery] = Loop(
            "announce", RECEIVERS, store.claim, _deliveries, self._announce_limits
        )
        events_exchange = settings.amqp.events_exchange if settings.amqp else None
        self.subscriptions = SubscriptionBook(
            store,
            time.time,
            _new_id,
            lambda url: check_url(url, policy),
            events_exchange,
            configured_of(settings),
            settings.deliveries.schedule,
        )
        self.recorder = recorder = Recorder(
            store,
            time.time,
            self.metrics,
            self.accounts,
            self.announce_loop,
            self.receive_loop,
            events_exchange,
            self.subscriptions.deliveries,
            settings.deliveries.schedule,
        )
        self.work = Work(store, self.vendors, self.accounts, self.callbacks, recorder, self.metrics, workers)
        self.receive = Receive(
            store,
            self.vendors,
            self.accounts,
            self.callbacks,
            recorder,
            time.time,
            self.metrics,
            self.receive_loop,
        )
        self.accept = Accept(
            store,
            self.accounts,
            self.callbacks,
            self.work_loop,
            self.announce_loop.wake,
            lambda url: check_url(url, policy),
            _reply_policy(settings.amqp),
            events_exchange,
            time.time,
            self.metrics,
            settings.http.max_request_bytes,
        )
        self.broker = self._broker(settings.amqp) if settings.amqp else None
        publisher = self.broker.publisher if self.broker else None
        self.announce = Announce(store, publisher, self.sender, time.time, self.metrics, self.subscriptions)
        self.work_loop.does(self.work.act, self.work.go_on)
        self.receive_loop.does(self.receive.act)
        self.announce_loop.does(self.announce.act)

    def _broker(self, amqp: Amqp) -> Broker:
        return Broker(
            [url.get_secret_value() for url in amqp.url],
            topology_of(amqp),
            new_id=_new_id,
            clock=time.time,
            intake=self.accept.intake,
            store_answers=self.store.ping,
            tls=tls_context(amqp),
            publish_timeout=amqp.publish_timeout,
            on_ready=self.announce_loop.wake,
        )

    def _doors(self) -> Doors:
        return Doors(
            take=self.accept.take,
            callback=self.receive.take,
            webhook=self.receive.take_fixed,
            awaited=self.receive.awaited,
            awaited_at=self.receive.awaited_at,
            store=self.store,
            accounts=self.accounts,
            readiness=self.readiness,
            metrics=self.exposition,
            wake_announce=self.announce_loop.wake,
            subscriptions=self.subscriptions,
            trial=self._trial,
            greet=lambda account: greet(self.vendors, account, log.without_credentials),
            broker_away=self._broker_away,
            new_id=_new_id,
            vendors=self.kinds,
            tokens=tuple(
                ApiToken(
                    name=token.name,
                    sha256=token.sha256,
                    scopes=frozenset(token.scopes),
                    connections=frozenset(token.connections) if token.connections is not None else None,
                )
                for token in self.settings.tokens
            ),
            max_bytes=self.settings.http.max_request_bytes,
            clock=time.time,
        )

    async def _trial(self, subscription: Subscription) -> Trial:
        """What comes of one test event, sent at once."""
        waiting = await self.store.waiting([subscription.lane])
        event = self.subscriptions.test_event(subscription, waiting.get(subscription.lane, 0))
        return await self.announce.trial(subscription, event.id, event.wire())

    def _broker_away(self) -> str | None:
        if self.broker is None:
            return "no broker is configured"
        return None if self.broker.publisher.ready else "the broker is away"

    def _announce_limits(self) -> Mapping[str, int]:
        """While the broker is away its lane is left alone, so that nothing is spent."""
        ready = self.broker is not None and self.broker.publisher.ready
        return {EXCHANGE_LANE: CONFIRMS if ready else 0}

    async def _settings_now(self, reload: Reload) -> Settings:
        """Those who ask together share one reading, beside the event loop: of many connections it takes long. Raises
        SettingsError."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().run_in_executor(self._aside, reload)
            self._reading.add_done_callback(self._have_read)
        return await asyncio.shield(self._reading)

    def _have_read(self, _: "asyncio.Future[Settings]") -> None:
        self._reading = None

    async def _reread(self, name: str) -> Connection:
        """The connection with its secrets as they are now: one in a file may have been replaced."""
        assert self._reload is not None
        try:
            async with asyncio.timeout(REREAD_PATIENCE):
                fresh = (await self._settings_now(self._reload)).connections.get(name)
            renewed = account_of(name, fresh, self.kinds).connection.options if fresh else None
        except (SettingsError, TimeoutError) as error:
            reason = str(error) or f"they could not be read within {REREAD_PATIENCE:g} s"
            logger.warning("settings.unreadable", connection=name, reason=reason)
            renewed = None
        if renewed is not None:
            account = self.accounts[name]
            connection = replace(account.connection, options=renewed)
            self.accounts[name] = replace(account, connection=connection)
        return self.accounts[name].connection

    # --- what is told ---

    async def readiness(self) -> dict[str, object]:
        """How relay fares, by part; `degraded` still takes requests and callbacks."""
        checks = {"store": await self._store_check(), **self._broker_checks()}
        if self._draining:
            checks["store"] = {"status": "down", "reason": "relay is shutting down"}
        fine = all(check["status"] in ("ok", "off") for check in checks.values())
        return {"status": "ok" if fine else "degraded", "checks": checks}

    async def _store_check(self) -> dict[str, str | None]:
        try:
            async with asyncio.timeout(STORE_PATIENCE):
                await self.store.ping()
        except StoreUnavailable as error:
            return _check("down", str(error))
        except TimeoutError:
            return _check("down", f"no answer within {STORE_PATIENCE:g} s")
        return _check("ok")

    def _broker_checks(self) -> dict[str, dict[str, str | None]]:
        if self.broker is None:
            return {name: _check("off") for name in ("broker", "topology", "consumer")}
        now = self.broker.status()
        consuming = now.consumer == "running"
        topology = _check("ok") if now.topology == "ok" else _check(now.topology, now.topology_error)
        if now.topology == "ok" and now.unread_events:
            topology = _check("unread", f"{now.unread_events} events wait in the events queue and nobody reads it")
        return {
            "broker": _check("ok") if now.broker == "up" else _check(now.broker, now.last_error),
            "topology": topology,
            "consumer": _check("ok") if consuming else _check(now.consumer, now.last_error),
        }

    async def exposition(self) -> bytes:
        """All metrics, as Prometheus reads them. Written beside the event loop: for many connections that takes half a
        second. One at a time, since what is counted in the store is set anew for each."""
        async with self._scraping:
            return await self._scraped()

    async def _scraped(self) -> bytes:
        with contextlib.suppress(StoreUnavailable, TimeoutError):  # the rest matters most just then
            async with asyncio.timeout(STORE_PATIENCE):
                self._count(await self.store.census())
        conditions = [one.condition for one in self.subscriptions.all()]
        for condition in get_args(Condition):
            self.metrics.subscriptions.labels(condition).set(conditions.count(condition))
        if self.broker is not None:
            now = self.broker.status()
            self.metrics.reconnects.set(now.reconnects)
            self.metrics.events_unread.set(now.unread_events)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._aside, generate_latest, self.metrics.registry)

    def _count(self, census: Census) -> None:
        self.metrics.jobs.clear()
        for (state, connection), count in census.jobs.items():
            self.metrics.jobs.labels(state, connection).set(count)
        self.metrics.deliveries.clear()
        for state, count in census.deliveries.items():
            self.metrics.deliveries.labels(state).set(count)
        self.metrics.oldest_undelivered.set(census.oldest_undelivered)
        for stage, age in census.oldest_due.items():
            self.metrics.oldest_due.labels(stage).set(age)

    # --- in the background ---

    async def _sweep(self) -> None:
        limited = [name for name, each in self.accounts.items() if each.max_in_flight is not None]
        while True:
            with contextlib.suppress(StoreUnavailable):
                if await self.store.sweep(self.settings.retention, limited):
                    continue
            await asyncio.sleep(SWEEP_EVERY)

    async def _reread_settings(self, reload: Reload) -> None:
        """A secret in a file may have been replaced, or the schedule changed. What cannot be read leaves everything as
        it was, and so does what is not there at the next look, too: a file may be in the middle of being written."""
        before = self.settings
        told: str | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REREAD_EVERY):
                    await self._hung_up.wait()
            if self._hung_up.is_set():
                self._hung_up.clear()
                self._waiting = told = None
            try:
                settings = await self._settings_now(reload)
                _check_subscriptions(settings, self.accounts, policy_of(self.settings))
            except SettingsError as error:
                reason = str(error)
                if reason != told:
                    logger.warning("settings.unreadable", setting="subscriptions, deliveries", reason=reason)
                told = reason
                continue
            told = None
            if settings == before:
                await self._take(settings)
            before = settings

    async def _take(self, settings: Settings) -> None:
        """Go by what may change while relay runs, and say of the rest that it waits for a start."""
        self.recorder.schedule = settings.deliveries.schedule
        with contextlib.suppress(StoreUnavailable):
            await self.subscriptions.configure(configured_of(settings), settings.deliveries.schedule)
        for name, account in list(self.accounts.items()):
            fresh = settings.connections.get(name)
            if fresh is not None and fresh.webhook_secret and account.webhook_secrets:
                self.accounts[name] = replace(account, webhook_secrets=_webhook_secrets(fresh))
        waiting: Sequence[str] = ()
        if settings != self.settings:
            loop = asyncio.get_running_loop()
            waiting = await loop.run_in_executor(self._aside, _differing, self.settings, settings)
        self._tell_waiting(waiting)

    def _tell_waiting(self, waiting: Sequence[str]) -> None:
        if waiting and waiting != self._waiting:
            logger.warning("settings.wait", settings=waiting, hint="they are taken when relay is started anew")
        elif not waiting and self._waiting != ():
            logger.info("settings.taken")
        self._waiting = waiting

    async def _share_limits(self) -> None:
        """Limits at vendors are for all relays on the store together."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                self.vendors.share(await self.store.replicas())
            await asyncio.sleep(BEAT_EVERY)

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            expected = loop.time() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self.metrics.loop_lag.set(max(0.0, loop.time() - expected))

    async def _drain(self) -> None:
        """Take nothing more, and let what is under way come to its record and its event, for as long as the settings
        allow."""
        self._draining = True
        logger.info("relay.stopping", within=self.settings.shutdown_timeout)
        loops = (self.work_loop, self.receive_loop, self.announce_loop)
        self.work_loop.stop()
        self.receive_loop.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.shutdown_timeout):
                if self.broker is not None:
                    await self.broker.stop_consuming()
                await self.server.stop()
                for loop in loops:
                    loop.stop()
                    await loop.drain()
        unfinished = sum(loop.active for loop in loops)
        for loop in loops:
            await loop.abandon()
        if self.broker is not None:
            await self.broker.close()
        await self.server.stop()
        logger.info("relay.stopped", unfinished=unfinished)


async def serve(settings: Settings, reload: Reload | None = None) -> None:
    """Run relay until SIGTERM or SIGINT; a second one ends the process at once. `reload` reads the settings anew, now
    and then and at a SIGHUP."""
    log.configure(settings.log.level, settings.log.format, for_good=True)
    failpoints.arm(os.environ.get("RELAY_FAILPOINTS", ""))
    async with Relay.opened(settings, reload) as relay:

        def stop() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, lambda: os._exit(1))
            relay.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, relay.look_again)
        await relay.run()


# --- from settings to parts ---


def check(settings: Settings) -> None:
    """Whether relay can be made of these settings, before anything is opened. Raises SettingsError, which tells all
    that is wrong."""
    if found := [told for _, told in faults(settings)]:
        raise SettingsError("\n".join(found))


def faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """What relay cannot be made of: each part that is wrong, and what is wrong with it."""
    for part, look in _looks(settings):
        try:
            look()
        except SettingsError as error:
            yield part, str(error)


def _looks(settings: Settings) -> Iterator[tuple[str, Callable[[], object]]]:
    """A look at each part; it raises SettingsError."""
    yield "http", partial(_refuse_open_house, settings)
    vendors = vendors_of(settings)
    for name, each in settings.connections.items():
        yield f"connection {name}", partial(_check_connection, name, each, vendors)
    try:
        policy = policy_of(settings)
    except SettingsError:
        yield "egress", partial(policy_of, settings)
    else:
        for title, one in settings.subscriptions.items():
            look = partial(_check_subscription, title, one, settings.connections, policy)
            yield f"subscription {title}", look
    yield "tokens", partial(_check_tokens, settings)
    if settings.amqp is not None:
        yield "broker", partial(tls_context, settings.amqp)


def _check_connection(name: str, settings: ConnectionSettings, vendors: Mapping[str, Vendor]) -> None:
    account = account_of(name, settings, vendors)
    try:
        VendorDriver([link_of(settings, account)])
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _check_tokens(settings: Settings) -> None:
    named = [name for token in settings.tokens for name in token.connections or ()]
    strangers = [name for name in named if name not in settings.connections]
    if strangers:
        known = ", ".join(sorted(settings.connections)) or "none"
        raise SettingsError(f"tokens: a token names the connection {strangers[0]!r}; configured are: {known}")


def _check_subscriptions(settings: Settings, connections: Collection[str], policy: EgressPolicy) -> None:
    for name, each in settings.subscriptions.items():
        _check_subscription(name, each, connections, policy)


def _check_subscription(
    name: str, settings: SubscriptionSettings, connections: Collection[str], policy: EgressPolicy
) -> None:
    if (fault := check_url(settings.url, policy)) is not None:
        raise SettingsError(f"subscriptions.{name}.url: {fault}")
    strangers = [connection for connection in settings.connections if connection not in connections]
    if strangers:
        known = ", ".join(sorted(connections)) or "none"
        raise SettingsError(
            f"subscriptions.{name}.connections: there is no connection {strangers[0]!r}; configured are: {known}"
        )


def configured_of(settings: Settings) -> list[Configured]:
    """The subscriptions of the settings."""
    return [
        Configured(
            name=name,
            definition=each.model_dump(mode="json", exclude_defaults=True, exclude={"secret"}),
            secret=each.secret.get_secret_value() if each.secret is not None else None,
        )
        for name, each in settings.subscriptions.items()
    ]


def _of_start(settings: Settings) -> Mapping[str, object]:
    """What is taken at the start of relay alone, by the settings' names. The vendors' secrets are no part of it: they
    are read again."""
    taken: dict[str, object] = {
        wire_name(name, info): getattr(settings, name)
        for name, info in Settings.model_fields.items()
        if name not in ("connections", "subscriptions", "deliveries")
    }
    vendors = vendors_of(settings)
    for name, each in settings.connections.items():
        own = {field: getattr(each, field) for field in ConnectionSettings.model_fields}
        own |= {"webhook_secret": bool(each.webhook_secret)}
        taken[f"connections.{name}"] = own, _options_of(name, each, vendors)
    return taken


def _options_of(name: str, settings: ConnectionSettings, vendors: Mapping[str, Vendor]) -> object:
    """The vendor's own settings of a connection, without their secrets; None where they are wrong."""
    try:
        return account_of(name, settings, vendors).connection.options.model_dump(mode="json")
    except SettingsError:
        return None


def _differing(one: Settings, other: Settings) -> Sequence[str]:
    """The names of what is taken at the start and is not the same in both."""
    old, new = _of_start(one), _of_start(other)
    return tuple(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))


def policy_of(settings: Settings) -> EgressPolicy:
    """Where URLs of requests may lead. Raises SettingsError."""
    try:
        return EgressPolicy.of(settings.egress.allow, settings.egress.allow_http)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def vendors_of(settings: Settings) -> Mapping[str, Vendor]:
    """Every vendor: those with code, and those that the settings declare. Raises SettingsError."""
    try:
        declared = {name: vendor_of(name, each, RESERVED) for name, each in settings.vendors.items()}
    except Mistakes as mistakes:
        raise SettingsError(f"vendors: {mistakes}") from None
    return {**declared, **VENDORS}


def accounts_of(settings: Settings, vendors: Mapping[str, Vendor]) -> dict[str, Account]:
    """Every configured connection with its vendor. Raises SettingsError."""
    return {name: account_of(name, each, vendors) for name, each in settings.connections.items()}


def account_of(name: str, settings: ConnectionSettings, vendors: Mapping[str, Vendor]) -> Account:
    """One connection with its vendor. Raises SettingsError."""
    where = f"connections.{name}"
    vendor = vendors.get(settings.vendor)
    if vendor is None:
        known = ", ".join(sorted(vendors))
        raise SettingsError(f"{where}.vendor: no vendor {settings.vendor!r}; there are: {known}")
    unknown = [word for word in settings.operations or () if word not in OPERATIONS]
    if unknown:
        raise SettingsError(f"{where}.operations: {unknown[0]!r} is no operation; there are: {', '.join(OPERATIONS)}")
    try:
        options = vendor.options.model_validate(dict(settings.options))
    except ValidationError as error:
        complaints = complaints_of(error, vendor.options, where, also=ConnectionSettings)
        lines = (f"{each.path}: {each.message}" for each in complaints)
        raise SettingsError("\n".join(lines)) from None
    return Account(
        connection=Connection(
            name=name,
            vendor=vendor.name,
            base_url=settings.base_url,
            options=options,
            on_unknown_submit=settings.on_unknown_submit,
            callback_signature=settings.callback_signature,
        ),
        vendor=vendor,
        allowed=frozenset(OPERATIONS) - NOT_BY_DEFAULT
        if settings.operations is None
        else frozenset(settings.operations),
        max_in_flight=settings.max_in_flight,
        webhook_secrets=_webhook_secrets(settings),
    )


def _webhook_secrets(settings: ConnectionSettings) -> tuple[str, ...]:
    return tuple(secret.get_secret_value() for secret in settings.webhook_secret)


def links_of(settings: Settings, accounts: Mapping[str, Account]) -> list[VendorLink]:
    """What the vendors' driver needs of each connection."""
    return [link_of(each, accounts[name]) for name, each in settings.connections.items()]


def link_of(settings: ConnectionSettings, account: Account) -> VendorLink:
    """The same of one."""
    return VendorLink(
        connection=account.connection,
        vendor=account.vendor,
        timeout=settings.timeout,
        tls=_tls_files(settings.tls),
        proxy=settings.proxy.get_secret_value() if settings.proxy else None,
        max_concurrency=settings.max_concurrency,
        requests_per_second=settings.requests_per_second,
    )


def vault_of(settings: Settings) -> Vault:
    """The keeper of secrets; without a key of the operator's, one is made beside the file. Raises SettingsError."""
    path = settings.database.path
    file = f"{path}.key"
    try:
        if settings.secret_key is not None:
            return Vault(settings.secret_key.get_secret_value())
        if path is None:
            raise SettingsError(
                "RELAY_SECRET_KEY: with PostgreSQL it must be set, the same for every relay on the database: "
                f"make one with `{KEY_RECIPE}`"
            )
        Path(file).resolve().parent.mkdir(parents=True, exist_ok=True)
        ring, made = key_beside(path)
        logger.info("key.made" if made else "key.read", file=file)
        return Vault(ring)
    except KeyRefused as error:
        raise SettingsError(f"{'RELAY_SECRET_KEY' if settings.secret_key is not None else file}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"database.url: the key {file} can be neither read nor made: {why}") from None


def topology_of(amqp: Amqp) -> Topology:
    """The exchanges and queues that relay uses."""
    return Topology(
        requests_exchange=amqp.requests_exchange,
        requests_queue=amqp.requests_queue,
        events_exchange=amqp.events_exchange,
        events_queue=amqp.events_queue,
        dead_letters_exchange=amqp.dead_letters_exchange,
        dead_letters_queue=amqp.dead_letters_queue,
        prefetch=amqp.prefetch,
        declare=amqp.declare_,
    )


def tls_context(amqp: Amqp) -> ssl.SSLContext | None:
    """The broker's TLS settings, None where the system's are meant. Raises SettingsError."""
    tls = amqp.tls
    if tls == Tls():
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or error
        raise SettingsError(f"amqp.tls: caFile, certFile or keyFile cannot be used: {why}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _driver(
    settings: Settings, accounts: Mapping[str, Account], reread: Reread | None, fetch: Fetch, keeper: Keeper
) -> VendorDriver:
    try:
        return VendorDriver(links_of(settings, accounts), reread=reread, fetch=fetch, keeper=keeper)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _tls_files(tls: Tls) -> TlsFiles | None:
    if tls == Tls():
        return None
    return TlsFiles(ca_file=tls.ca_file, cert_file=tls.cert_file, key_file=tls.key_file, verify=tls.verify)


def _reply_policy(amqp: Amqp | None) -> ReplyPolicy:
    if amqp is None or amqp.reply_to == "off":
        return ReplyPolicy(prefixes=())
    own = {amqp.requests_queue, amqp.dead_letters_queue, amqp.events_queue or ""}
    return ReplyPolicy(prefixes=None if amqp.reply_to == "any" else tuple(amqp.reply_to), own_queues=frozenset(own))


def _refuse_open_house(settings: Settings) -> None:
    """Without tokens anyone who reaches relay may use it: so nobody from elsewhere may reach it."""
    if not settings.tokens and settings.http.host not in _THIS_MACHINE:
        raise SettingsError(
            f"http.host: {settings.http.host} is open to others and no token is configured: "
            "make one with `relay tokens create`, or serve 127.0.0.1"
        )


def _warn_of_proxies(settings: Settings) -> None:
    """One on this machine that says nothing of who asked, as not all do by default, looks like this machine itself."""
    url = settings.http.public_url
    if url is not None and not settings.tokens and not _LEADS_HERE.match(url):
        hint = "what leads from there to here may let anybody use the API: make a token with `relay tokens create`"
        logger.warning("api.open_to_proxies", public_url=url, hint=hint)


_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_LEADS_HERE = re.compile(r"https?://(127\.0\.0\.1|\[::1\]|localhost)(:|/|$)")


def _unheard(error: OSError) -> str:
    """Why it cannot be listened there, and what to do."""
    if isinstance(error, socket.gaierror):
        return f"{error.strerror}: set http.host to an address of this machine"
    advice = {
        errno.EADDRINUSE: "set another http.port, or end what listens there",
        errno.EADDRNOTAVAIL: "set http.host to an address of this machine",
    }
    return f"{os.strerror(error.errno or 0)}: {advice.get(error.errno or 0, 'set another http.port')}"


def _new_id() -> str:
    return ulid(time.time(), entropy.draw(10))


def _check(status: str, reason: str | None = None) -> dict[str, str | None]:
    return {"status": status, "reason": reason}


def _jobs(claimed: Claimed) -> tuple[Job, ...]:
    return claimed.jobs


def _callbacks(claimed: Claimed) -> tuple[StoredCallback, ...]:
    return claimed.callbacks


def _deliveries(claimed: Claimed) -> tuple[Delivery, ...]:
    return claimed.deliveries
