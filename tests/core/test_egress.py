"""The egress policy's pure part: which addresses are forbidden, and which URLs are refused at once."""

import pytest

from relay.core.egress import EgressPolicy, check_url, forbidden

FORBIDDEN = {
    "0.0.0.0": "this network",  # noqa: S104 - a destination here
    "0.1.2.3": "this network",
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "shared address space",
    "100.100.100.200": "shared address space",
    "100.127.255.255": "shared address space",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.0.1": "link-local",
    "169.254.169.254": "link-local",
    "169.254.170.2": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "protocol assignments",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.0.1": "private",
    "192.168.255.255": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation",
    "203.0.113.7": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "168.63.129.16": "cloud platform",
    "::": "this network",
    "::1": "loopback",
    "::127.0.0.1": "IPv4-compatible",
    "::10.0.0.1": "IPv4-compatible",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:10.1.2.3": "private",
    "::ffff:0:127.0.0.1": "not global unicast",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::169.254.169.254": "NAT64",
    "64:ff9b::8.8.8.8": "NAT64",
    "64:ff9b:1::a00:1": "NAT64",
    "100::1": "discard",
    "2001::1": "Teredo",
    "2001:0:7f00:1::": "Teredo",
    "2001:2::1": "protocol assignments",
    "2001:10::1": "protocol assignments",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:a9fe:a9fe::": "6to4",
    "2002:808:808::": "6to4",
    "3ffe::1": "reserved",
    "3fff::1": "documentation",
    "4000::1": "not global unicast",
    "5f00::1": "not global unicast",
    "8000::1": "not global unicast",
    "2606:4700::5efe:7f00:1": "ISATAP",
    "2606:4700::5efe:8.8.8.8": "ISATAP",
    "2606:4700::200:5efe:a00:1": "ISATAP",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
}

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "128.0.0.1",
    "168.63.129.15",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "2606:4700::100:5efe:a00:1",
    "2606:4700::5eff:a00:1",
    "2606:4700:0:5efe::a00:1",
    "3ffd::1",
    "3fff:1000::1",
    "2a00:1450:4001::1",
]


@pytest.mark.parametrize(("address", "rule"), FORBIDDEN.items())
def test_addresses_that_are_not_public_are_forbidden_by_a_named_rule(address: str, rule: str) -> None:
    """An address that no stranger may make relay connect to is forbidden, and the rule has a name."""
    actual = forbidden(address)

    assert rule == actual


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not_forbidden(address: str) -> None:
    """A public address passes, also at the very edge of a forbidden network."""
    actual = forbidden(address)

    assert actual is None


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"])
def test_an_allowed_network_exempts_its_addresses(address: str) -> None:
    """What the operator allows by network passes, an IPv4 address also in IPv6 clothes."""
    actual = forbidden(address, EgressPolicy.of(["10.1.0.0/16", "fd12::/16"]).networks)

    assert actual is None


@pytest.mark.parametrize(
    "address", ["10.2.0.1", "2606:4700::5efe:a01:203", "64:ff9b::10.1.2.3", "2002:a01:203::", "::10.1.2.3"]
)
def test_an_allowed_network_exempts_nothing_else(address: str) -> None:
    """What is outside of an allowed network stays forbidden, and so do forms that only carry such an address."""
    actual = forbidden(address, EgressPolicy.of(["10.1.0.0/16"]).networks)

    assert actual is not None


REFUSED = [
    "",
    "hooks.example.com",
    "//hooks.example.com/x",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://hooks.example.com/",
    "javascript:alert(1)",
    "http://hooks.example.com/",
    "https://",
    "https:///x",
    "https:hooks.example.com",
    "https://?x=1",
    "https://user@hooks.example.com/",
    "https://user:word@hooks.example.com/",
    "https://@hooks.example.com/",
    "https://hooks.example.com@127.0.0.1/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:65536/",
    "https://hooks.example.com:80:80/",
    "https://hooks.example.com:port/",
    "https://hooks.example.com:-1/",
    "https://hooks.example.com\\@127.0.0.1/",
    "https://hooks.example.com/a b",
    "https://hooks.example.com/a\r\nx: y",
    "https://hooks.example.com/a\tb",
    "https://hooks.example.com/\x00",
    "https://hooks.example.com/\u2028",
    "https://hooks.example.com/\ud800",
    " https://hooks.example.com/",
    "https://hooks..example.com/",
    "https://.example.com/",
    "https://hooks%2eexample.com/",
    "https://hooks.exam!ple.com/",
    "https://*.example.com/",
    f"https://{'a' * 64}.example.com/",
    f"https://{'a.' * 130}com/",
    f"https://hooks.example.com/{'a' * 8000}",
    "https://2130706433/",
    "https://017700000001/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7f.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://127.0.0.1./",
    "https://127.0.0.256/",
    "https://127.0.0.1.1/",
    "https://1.2.3.4.0x10/",
    "https://hooks.example.0x/",
    "https://①②⑦.1/",
    "https://[::1/",
    "https://[::1]a/",
    "https://[::1].example.com/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[v1.fe80]/",
    "https://[127.0.0.1]/",
    "https://[]/",
]


@pytest.mark.parametrize("url", REFUSED)
def test_urls_of_a_wrong_form_are_refused(url: str) -> None:
    """A URL that is not https to a host, or hides where it leads, is refused before anything is looked up."""
    actual = check_url(url, EgressPolicy())

    assert actual is not None


GOOD = [
    "https://hooks.example.com",
    "https://hooks.example.com/",
    "https://hooks.example.com./x",
    "HTTPS://HOOKS.EXAMPLE.COM/X",
    "https://hooks.example.com:8443/a/b?c=d&e=%41#f",
    "https://hooks.example.com/%E2%82%AC/~me/(a)?q=a|b",
    "https://my_host-1.internal/",
    "https://hooks/",
    "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/",
    "https://[2606:4700:4700::1111]:8443/",
    "https://bücher.example/straße",
    "https://xn--bcher-kva.example/",
    "https://4.example/",
    "https://10.0.0.1/",
]


@pytest.mark.parametrize("url", GOOD)
def test_urls_of_a_good_form_are_accepted(url: str) -> None:
    """A plain https URL is accepted; whether its address is allowed shows when relay connects."""
    actual = check_url(url, EgressPolicy())

    assert actual is None


def test_http_is_accepted_where_the_operator_allows_it() -> None:
    """With allowHttp an http URL is as good as an https one."""
    actual = check_url("http://hooks.example.com/", EgressPolicy.of([], allow_http=True))

    assert actual is None


@pytest.mark.parametrize("host", ["hooks.internal", "HOOKS.internal", "hooks.internal.", "bücher.internal"])
def test_a_host_is_allowed_by_its_name_in_any_spelling(host: str) -> None:
    """A host allowed by name is known again in upper case, with the root's dot and in its international form."""
    policy = EgressPolicy.of(["hooks.internal", "xn--bcher-kva.internal"])

    assert policy.allows_host(host)


@pytest.mark.parametrize("host", ["internal", "a.hooks.internal", "hooks.internal.example.com", ""])
def test_a_host_allowed_by_name_allows_no_other(host: str) -> None:
    """Neither parent nor child nor look-alike of an allowed host is allowed."""
    policy = EgressPolicy.of(["hooks.internal"])

    assert not policy.allows_host(host)


@pytest.mark.parametrize(
    "entry", ["", "10.1.0.1/16", "10.1.0.0/33", "https://hooks.internal", "a b", "*.internal", "127.1"]
)
def test_an_entry_that_means_nothing_is_refused(entry: str) -> None:
    """An allow-list entry that is neither address, network nor host name is an error that quotes it."""
    with pytest.raises(ValueError, match=r"egress\.allow: "):
        EgressPolicy.of([entry])


def test_an_entry_that_means_two_names_is_refused() -> None:
    """A name that becomes another one under the old rules for international names would allow a stranger."""
    with pytest.raises(ValueError, match=r"in its xn-- form"):
        EgressPolicy.of(["fa\u00df.internal"])

    assert EgressPolicy.of(["b\u00fccher.internal"]).allows_host("xn--bcher-kva.internal")
