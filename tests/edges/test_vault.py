"""What the vault promises."""

import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay.edges.vault import KeyRefused, SealBroken, Vault, key_beside, new_key

OLD, NEW = new_key(), new_key()


def test_what_is_sealed_opens_again() -> None:
    """Any bytes come back; what lies between shows nothing of them and is another each time."""
    vault = Vault(NEW)
    plain = b"canary \x00\xff"
    sealed = vault.seal(plain)

    assert vault.open(sealed) == plain
    assert plain not in sealed
    assert sealed.isascii()
    assert sealed != vault.seal(plain)


def test_a_ring_opens_what_any_of_its_keys_sealed() -> None:
    """While keys rotate the old one's seals still open, and the first key seals."""
    old = Vault(OLD).seal(b"plain")
    ring = Vault(f"{NEW}, {OLD}")

    assert ring.open(old) == b"plain"
    assert Vault(NEW).open(ring.seal(b"plain")) == b"plain"
    assert [ring.current(old), ring.current(ring.seal(b"plain"))] == [False, True]


@pytest.mark.parametrize(
    "sealed",
    [Vault(OLD).seal(b"plain"), b"", b"nonsense", Vault(NEW).seal(b"plain")[:-4] + b"AAAA"],
    ids=["of a lost key", "empty", "nonsense", "spoiled"],
)
def test_what_no_key_opens_says_what_to_do(sealed: bytes) -> None:
    """A seal of a lost key, or a spoiled one, is an error that names the setting and shows nothing."""
    with pytest.raises(SealBroken, match="add the key that sealed it to RELAY_SECRET_KEY") as caught:
        Vault(NEW).open(sealed)

    assert NEW not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("ring", "told"),
    [
        ("", "is empty"),
        (" , ", "is empty"),
        ("c2hvcnQ=", "key 1 of the secret key is not URL-safe base64 of 32 bytes"),
        (f"{NEW},not base64!", "key 2 of the secret key is not"),
        (NEW + "AAAA", "key 1"),
        ("ä" * 32, "key 1"),
    ],
    ids=["empty", "blank", "short", "second", "long", "not ASCII"],
)
def test_a_bad_ring_is_refused_by_place(ring: str, told: str) -> None:
    """A key that cannot be used is named by its place in the ring, never shown."""
    with pytest.raises(KeyRefused, match=told) as caught:
        Vault(ring)

    assert not any(part.strip() and part.strip() in str(caught.value) for part in ring.split(","))


def test_a_vault_shows_no_key() -> None:
    """Whatever prints a vault prints no secret."""
    assert repr(Vault(f"{NEW},{OLD}")) == "<Vault of 2 keys>"


def test_derived_secrets_follow_the_ring() -> None:
    """Each key gives its own, the first key's first, the same each time."""
    ring = Vault(f"{NEW},{OLD}")

    assert ring.derive(b"token", "job") == Vault(NEW).derive(b"token", "job") + Vault(OLD).derive(b"token", "job")
    assert len(set(ring.derive(b"token", "job"))) == 2
    assert {len(digest) for digest in ring.derive(b"token", "job")} == {32}


def test_derived_secrets_tell_nothing_of_each_other() -> None:
    """Another label or another message is another secret, and none is an HMAC under the key itself."""
    vault = Vault(NEW)
    derived = [*vault.derive(b"token", "job"), *vault.derive(b"secret", "job"), *vault.derive(b"token", "job2")]

    assert len(set(derived)) == 3
    assert hmac.digest(NEW.encode(), b"job", "sha256") not in derived


def test_a_key_is_made_beside_the_database(tmp_path: Path) -> None:
    """It is made once, for its owner's eyes alone, and found again."""
    database = tmp_path / "relay.db"
    key, made = key_beside(database)

    assert (made, key_beside(database)) == (True, (key, False))
    assert Vault(key).open(Vault(key).seal(b"plain")) == b"plain"
    assert [path.name for path in tmp_path.iterdir()] == ["relay.db.key"]
    assert stat.S_IMODE((tmp_path / "relay.db.key").stat().st_mode) == 0o600


def test_who_starts_at_once_gets_the_same_key(tmp_path: Path) -> None:
    """However many make it at the same moment, one key is made and all have it."""
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: key_beside(tmp_path / "relay.db"), range(64)))

    assert len({key for key, _ in found}) == 1
    assert sum(made for _, made in found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["relay.db.key"]
