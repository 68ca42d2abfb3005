"""The egress guard, seen from outside: what the sender connects to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.core.egress import EgressPolicy
from relay.core.flow import NotFetched
from relay.edges.egress import ThreadResolver
from relay.edges.http import WebhookSender
from relay.ports import Blocked, NotAnswered, Outbound
from tests.edges import http_peers as peers
from tests.edges.http_peers import Peer, replying, serving
from tests.edges.inside import INSIDE, PORTS, SCHEMES
from tests.edges.name_server import A, naming


class Zone(AbstractResolver):
    """A name server's answers, the next set each time a name is asked for."""

    def __init__(self, **names: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self._answers[host.removesuffix(".")].pop(0)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def send(policy: EgressPolicy, url: str, zone: AbstractResolver | None = None) -> int:
    """The status that a fresh sender under this policy gets from the URL."""
    sender = WebhookSender(policy, lambda: 0.0, resolver=zone)
    try:
        request = Outbound(method="POST", url=url, headers={}, body=b"{}", timeout=5)
        return (await sender.send(request)).status
    finally:
        await sender.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Peer]:
    """A receiver on loopback that takes everything."""
    async with serving(replying(peers.OK)) as peer:
        yield peer


HTTP = EgressPolicy.of([], allow_http=True)
LOCAL = EgressPolicy.of(["127.0.0.0/8"], allow_http=True)


@dataclass
class Door:
    """Listens on every address of this machine, and counts who comes."""

    port: int = 0
    connections: int = 0

    def came(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connected."""
        self.connections += 1
        writer.transport.abort()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """What nobody may connect to."""
    door = Door()
    everywhere = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    async with await asyncio.start_server(door.came, sock=everywhere):
        door.port = everywhere.getsockname()[1]
        yield door


@pytest.mark.parametrize("host", [host for hosts in INSIDE.values() for host in hosts])
async def test_nothing_inside_can_be_reached(door: Door, host: str) -> None:
    """However an inner address is spelled, the delivery is blocked and nothing connects."""
    with pytest.raises(Blocked, match=r"^blocked by egress policy: .+ \(.+\)$"):
        await send(HTTP, f"http://{host}:{door.port}/latest/meta-data/")

    assert door.connections == 0


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_no_other_scheme_is_spoken(door: Door, scheme: str) -> None:
    """What is neither http nor https is blocked, also where the address is allowed."""
    with pytest.raises(Blocked, match=r"\(URL refused: it must begin with https://\)$"):
        await send(LOCAL, f"{scheme}://127.0.0.1:{door.port}/")

    assert door.connections == 0


@pytest.mark.parametrize("port", PORTS)
async def test_a_port_is_a_number_between_1_and_65535(port: str) -> None:
    """What stands for a port and is none is refused, and nobody guesses."""
    with pytest.raises(Blocked, match=r"^blocked by egress policy: .+ \(URL refused: .+\)$"):
        await send(LOCAL, f"http://127.0.0.1:{port}/")


OUTSIDE = [
    "http://127.0.0.1:{port}",
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}?a=b",
    "http://127.0.0.1:{port}#fragment",
    "HTTP://127.0.0.1:{port}/a/../b",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://LOCALHOST:{port}/%2e%2e/@/:80/\u00fc?x=http://10.0.0.1/",
]


@pytest.mark.parametrize("url", OUTSIDE)
async def test_a_good_url_is_reached(receiver: Peer, url: str) -> None:
    """An ordinary URL whose address is allowed is delivered to, whatever stands behind its host."""
    policy = EgressPolicy.of(["127.0.0.0/8", "::1"], allow_http=True)

    assert 200 == await send(policy, url.format(port=receiver.port))


INNER_ADDRESSES = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1", "64:ff9b::a00:1"]


@pytest.mark.parametrize("address", INNER_ADDRESSES)
async def test_a_name_that_leads_inside_is_blocked(address: str) -> None:
    """What counts is where a name leads; the address and the rule are told."""
    zone = Zone(metadata_example=[[address]])
    with pytest.raises(Blocked, match=rf"^blocked by egress policy: {address} \("):
        await send(HTTP, "http://metadata.example/", zone)


@pytest.mark.parametrize("addresses", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "::1"]])
async def test_one_bad_address_condemns_the_name(receiver: Peer, addresses: list[str]) -> None:
    """A name with a good and a forbidden address is blocked, whichever comes first."""
    zone = Zone(mixed_example=[addresses])
    with pytest.raises(Blocked):
        await send(LOCAL, f"http://mixed.example:{receiver.port}/", zone)

    assert receiver.calls == []


async def test_the_address_that_was_checked_is_the_one_connected_to(receiver: Peer) -> None:
    """A name that changes its mind between check and connection gains nothing: it is asked once."""
    zone = Zone(rebind_example=[["127.0.0.1"], ["169.254.169.254"]])
    status = await send(LOCAL, f"http://rebind.example:{receiver.port}/", zone)

    assert (200, ["rebind.example"], 1) == (status, zone.asked, len(receiver.calls))


async def test_every_new_look_up_is_checked(receiver: Peer) -> None:
    """A name that was good before is blocked once it leads inside."""
    zone = Zone(rebind_example=[["127.0.0.1"], ["169.254.169.254"]])
    url = f"http://rebind.example:{receiver.port}/"
    await send(LOCAL, url, zone)
    with pytest.raises(Blocked, match=r"169\.254\.169\.254 \(link-local\)"):
        await send(LOCAL, url, zone)


# A public address and a private one, as far as a machine without a network can have them: two of its own, of which the
# policy allows the first.
PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"
PUBLIC_ALONE = EgressPolicy.of([PUBLIC], allow_http=True)


@pytest.fixture
async def private(receiver: Peer) -> AsyncIterator[Door]:
    """What listens at the private address, at the port of the public receiver."""
    door = Door(port=receiver.port)
    async with await asyncio.start_server(door.came, PRIVATE, receiver.port):
        yield door


TURNS = {
    "private at once": [[PRIVATE]],
    "private in IPv6 clothes": [[f"::ffff:{PRIVATE}"]],
    "private by the other type": [[PUBLIC, "::1"]],
    "private last": [[PUBLIC, PRIVATE]],
    "private first": [[PRIVATE, PUBLIC]],
    "private amid many": [[*[PUBLIC] * 5, PRIVATE, *[PUBLIC] * 5]],
    "metadata beside a public one": [[PUBLIC, "169.254.169.254"]],
    "translated": [[PUBLIC, "64:ff9b::7f00:2"]],
}


@pytest.mark.parametrize("turns", TURNS.values(), ids=TURNS)
async def test_no_answer_of_a_name_server_leads_inside(receiver: Peer, private: Door, turns: list[list[str]]) -> None:
    """If any address that a name server tells is private, nothing connects: not there, and to no other."""
    async with naming({"hook.example": turns}) as (_, resolver):
        with pytest.raises(Blocked, match=r"^blocked by egress policy: \S+ \(.+\)$"):
            await send(PUBLIC_ALONE, f"http://hook.example:{receiver.port}/", resolver)

    assert (0, []) == (private.connections, receiver.calls)


async def test_a_name_that_turns_private_is_asked_once(receiver: Peer, private: Door) -> None:
    """A name that turns private behind the check is connected where it was checked: nobody asks a second time."""
    async with naming({"hook.example": [[PUBLIC], [PRIVATE]]}) as (server, resolver):
        status = await send(PUBLIC_ALONE, f"http://hook.example:{receiver.port}/", resolver)

    assert (200, 0, 1) == (status, private.connections, server.asked["hook.example", A])


async def test_a_name_that_turned_private_is_blocked(receiver: Peer, private: Door) -> None:
    """A name that was delivered to while it was public is blocked when it has turned private."""
    async with naming({"hook.example": [[PUBLIC], [PRIVATE], [PUBLIC, PRIVATE]]}) as (_, resolver):
        url = f"http://hook.example:{receiver.port}/"
        first = await send(PUBLIC_ALONE, url, resolver)
        for _ in range(2):
            with pytest.raises(Blocked):
                await send(PUBLIC_ALONE, url, resolver)

    assert (200, 1, 0) == (first, len(receiver.calls), private.connections)


async def test_a_sender_that_goes_on_never_follows_a_name_inside(private: Door) -> None:
    """One sender, a connection for each delivery, a name with another answer each time: none goes inside."""
    closing = replying(peers.answer(200, "connection: close"))
    async with serving(closing) as receiver, naming({"hook.example": [[PUBLIC], [PRIVATE]]}) as (_, resolver):
        sender = WebhookSender(PUBLIC_ALONE, lambda: 0.0, resolver=resolver)
        url = f"http://hook.example:{receiver.port}/"
        for _ in range(5):
            with suppress(Blocked):
                await sender.send(Outbound(method="POST", url=url, headers={}, body=b""))
        await sender.close()

    assert private.connections == 0


async def test_a_name_that_nobody_knows_is_not_blocked() -> None:
    """What the name server does not know may be known tomorrow: the delivery is tried again."""
    async with naming({}) as (_, resolver):
        with pytest.raises(NotAnswered, match="its name cannot be resolved"):
            await send(PUBLIC_ALONE, "http://hook.example/", resolver)


FETCHED = ["127.0.0.2", "[::1]", "[::ffff:127.0.0.2]", "2130706434", "hook.example"]


@pytest.mark.parametrize("host", FETCHED)
async def test_a_file_is_fetched_through_the_same_guard(receiver: Peer, private: Door, host: str) -> None:
    """A file whose URL leads inside is not fetched, for good, and nothing connects."""
    async with naming({"hook.example": [[PUBLIC, PRIVATE]]}) as (_, resolver):
        sender = WebhookSender(PUBLIC_ALONE, lambda: 0.0, resolver=resolver)
        with pytest.raises(NotFetched, match=r"^blocked by egress policy: \S+ \(.+\)$") as caught:
            await sender.fetch(f"http://{host}:{receiver.port}/file.sql", 1000, 5.0)
        await sender.close()

    assert (True, 0, []) == (caught.value.final, private.connections, receiver.calls)


async def test_a_fetch_is_never_redirected(receiver: Peer) -> None:
    """A file's server that redirects has its redirect for an answer."""
    async with serving(replying(peers.answer(302, f"location: {receiver.url}/inside"))) as redirecting:
        sender = WebhookSender(LOCAL, lambda: 0.0)
        answer = await sender.fetch(redirecting.url, 1000, 5.0)
        await sender.close()

    assert (302, []) == (answer.status, receiver.calls)


async def test_a_redirect_leads_nowhere(receiver: Peer) -> None:
    """A receiver that redirects to the inside gets its own answer back as a failure; nobody follows."""
    async with serving(replying(peers.answer(302, f"location: {receiver.url}/inside"))) as redirecting:
        status = await send(LOCAL, redirecting.url)

    assert (302, []) == (status, receiver.calls)


async def test_what_is_allowed_by_network_is_reached(receiver: Peer) -> None:
    """An allowed network is reached by literal address and by name."""
    zone = Zone(hook_example=[["127.0.0.1"]])
    by_address = await send(LOCAL, receiver.url)
    by_name = await send(LOCAL, f"http://hook.example:{receiver.port}/", zone)

    assert (200, 200) == (by_address, by_name)


@pytest.mark.parametrize("host", ["hooks.internal", "HOOKS.internal", "hooks.internal."])
async def test_a_host_allowed_by_name_may_be_inside(receiver: Peer, host: str) -> None:
    """An allowed host is reached wherever it is, in any spelling of its name."""
    policy = EgressPolicy.of(["hooks.internal"], allow_http=True)
    status = await send(policy, f"http://{host}:{receiver.port}/", Zone(hooks_internal=[["127.0.0.1"]]))

    assert status == 200


async def test_an_allowed_host_opens_no_door_for_others(receiver: Peer) -> None:
    """Another name for the address of an allowed host is blocked, before and after that host was reached."""
    policy = EgressPolicy.of(["hooks.internal"], allow_http=True)
    zone = Zone(hooks_internal=[["127.0.0.1"]], other_internal=[["127.0.0.1"]] * 2)
    sender = WebhookSender(policy, lambda: 0.0, resolver=zone)

    async def attempt(host: str) -> str:
        url = f"http://{host}:{receiver.port}/"
        try:
            await sender.send(Outbound(method="POST", url=url, headers={}, body=b""))
        except Blocked:
            return "blocked"
        return "sent"

    actual = [await attempt(f"{name}.internal") for name in ("other", "hooks", "other")]
    await sender.close()

    assert ["blocked", "sent", "blocked"] == actual


async def test_http_is_blocked_once_it_is_not_allowed_any_more(receiver: Peer) -> None:
    """The policy of the moment counts, not the one at acceptance."""
    with pytest.raises(Blocked, match="allowHttp"):
        await send(EgressPolicy.of(["127.0.0.0/8"]), receiver.url)

    assert receiver.calls == []


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy")


@pytest.fixture
def proxied(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which everything goes through a proxy: the door."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{door.port}")
        monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{door.port}")


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "https://10.0.0.1/", "https://[fd00::1]/"])
async def test_the_environments_proxy_is_no_way_around(door: Door, proxied: None, url: str) -> None:
    """A proxy in the environment is not used: it would connect for us, unguarded."""
    with pytest.raises(Blocked):
        await send(HTTP, url)

    assert door.connections == 0


async def test_no_delivery_goes_through_the_environments_proxy(receiver: Peer, door: Door, proxied: None) -> None:
    """What is allowed goes straight to its receiver, by address and by a name that is allowed."""
    policy = EgressPolicy.of(["127.0.0.0/8", "hooks.internal"], allow_http=True)
    async with naming({"hooks.internal": [["127.0.0.1"]]}) as (_, resolver):
        urls = [receiver.url, f"http://hooks.internal:{receiver.port}/"]
        actual = [await send(policy, url, resolver) for url in urls]

    assert ([200, 200], 2, 0) == (actual, len(receiver.calls), door.connections)


async def test_an_error_names_no_credentials() -> None:
    """What is refused for its user name or password is not quoted with it."""
    with pytest.raises(Blocked) as caught:
        await send(HTTP, "http://user:canary@hooks.example.com/canary?canary")

    assert "canary" not in str(caught.value)


async def test_the_systems_resolver_tells_every_address() -> None:
    """Names are looked up in threads of our own, and an unknown one is an OSError."""
    resolver = ThreadResolver(threads=1)
    found = [one["host"] for one in await resolver.resolve("127.0.0.1", 80)]
    with pytest.raises(OSError, match="not known"):
        await resolver.resolve("hook.invalid", 80)
    await resolver.close()

    assert found == ["127.0.0.1"]


async def test_no_answer_is_told_apart_from_blocked() -> None:
    """A name that cannot be looked up may work tomorrow: that is no matter of policy."""
    with pytest.raises(NotAnswered):
        await send(HTTP, "http://hook.invalid/")
