"""The egress guard, seen from outside: what the sender connects to."""

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.core.egress import EgressPolicy
from relay.edges.egress import ThreadResolver
from relay.edges.http import WebhookSender
from relay.ports import Blocked, NotAnswered, Outbound
from tests.edges import http_peers as peers
from tests.edges.http_peers import Peer, replying, serving


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

# Every way that we know of to say "this machine" or "the inside". All are tried at a port where a server listens.
INSIDE = [
    "127.0.0.1",
    "127.0.0.2",
    "127.127.127.127",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",  # noqa: S104 - a destination here
    "2130706433",
    "0x7f000001",
    "0x7F000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.1",
    "017700000001",
    "127.0.0.01",
    "127.0.0.1.",
    "127.0.0.0x1",
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "localhost",
    "LOCALHOST",
    "ｌocalhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[fec0::1]",
    "[fd00:ec2::254]",
    "[fd00::1]",
    "[ff02::1]",
    "[100::1]",
    "10.0.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "2852039166",
    "0xA9FEA9FE",
    "0251.0376.0251.0376",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "user@127.0.0.1",
    "user:word@127.0.0.1",
    "hooks.example.com@127.0.0.1",
    "hooks.example.com:80@127.0.0.1",
    "127.0.0.1\\@hooks.example.com",
    "127.0.0.1#@hooks.example.com",
    "127.0.0.1?@hooks.example.com",
    "127.0.0.1/@hooks.example.com",
    "[::1].example.com",
    "127.0.0.1\t",
    "127.0.0.1 ",
]


@pytest.mark.parametrize("host", INSIDE)
async def test_nothing_inside_can_be_reached(receiver: Peer, host: str) -> None:
    """However an inner address is spelled, the delivery is blocked and nothing is sent."""
    with pytest.raises(Blocked, match=r"^blocked by egress policy: .+ \(.+\)$"):
        await send(HTTP, f"http://{host}:{receiver.port}/latest/meta-data/")

    assert receiver.calls == []


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


async def test_the_environments_proxy_is_no_way_around(receiver: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not used: it would connect for us, unguarded."""
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    with pytest.raises(Blocked):
        await send(HTTP, "http://10.0.0.1/")

    assert receiver.calls == []


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
