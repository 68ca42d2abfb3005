"""Secrets at rest: sealed by the first key of a ring, opened by any of them."""

import base64
import binascii
import functools
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay import entropy

NONCE = 12
"""Bytes, drawn anew for each seal: after 10^11 seals two are alike with a chance of one in ten million."""
TAG = 16
KEY_RECIPE = "python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
"""What makes a fresh key, on a command line."""


class KeyRefused(ValueError):
    """A key ring that cannot be used; the text says why, and shows no key."""


class SealBroken(Exception):
    """A sealed value that no key of the ring opens."""


class Vault:
    """A ring of keys, written as URL-safe base64 of 32 bytes each, separated by commas.

    The first seals; all of them open, so that a key can be replaced while what it sealed is still about.
    """

    def __init__(self, ring: str) -> None:
        """Raises KeyRefused for a ring without a key, or with a malformed one."""
        keys = [key.strip() for key in ring.split(",") if key.strip()]
        if not keys:
            raise KeyRefused("the secret key is empty: set RELAY_SECRET_KEY to URL-safe base64 of 32 bytes")
        self._keys = [_decoded(key, place) for place, key in enumerate(keys, 1)]
        self._ciphers = [AESGCM(_subkey(key, b"seal")) for key in self._keys]

    def __repr__(self) -> str:
        return f"<Vault of {len(self._keys)} keys>"

    def __len__(self) -> int:
        return len(self._keys)

    def seal(self, plain: bytes) -> bytes:
        """The value under the first key, by AES-GCM: ASCII, another one each time."""
        nonce = entropy.draw(NONCE)
        return binascii.b2a_base64(nonce + self._ciphers[0].encrypt(nonce, plain, None), newline=False)

    def open(self, sealed: bytes) -> bytes:
        """What was sealed. Raises SealBroken if no key of the ring opens it."""
        for cipher in self._ciphers:
            if (plain := _opened(cipher, sealed)) is not None:
                return plain
        raise SealBroken(
            f"a stored secret opens with none of the {len(self._keys)} keys given: "
            "add the key that sealed it to RELAY_SECRET_KEY, after the one in use, and start again "
            "(with SQLite and no RELAY_SECRET_KEY it is the .key file beside the database)"
        )

    def current(self, sealed: bytes) -> bool:
        """Whether the first key alone opens it: then no other key is needed for it."""
        return _opened(self._ciphers[0], sealed) is not None

    def place(self, sealed: bytes) -> int | None:
        """The place in the ring, from 1, of the key that opens it; None if none does."""
        opening = (place for place, cipher in enumerate(self._ciphers, 1) if _opened(cipher, sealed) is not None)
        return next(opening, None)

    def derive(self, label: bytes, message: str) -> list[bytes]:
        """HMAC-SHA256 of the message under each key's own subkey for that label, the first key's first.

        Make with the first, accept all: so what was handed out outlives a rotation.
        """
        # Not hmac.digest: it lets go of the interpreter's lock for as little as this.
        return [hmac.new(_subkey(key, label), message.encode("utf-8"), hashlib.sha256).digest() for key in self._keys]


def _opened(cipher: AESGCM, sealed: bytes) -> bytes | None:
    """What was sealed, None if not by this key or not whole."""
    try:
        raw = binascii.a2b_base64(sealed, strict_mode=True)
        return cipher.decrypt(raw[:NONCE], raw[NONCE:], None) if len(raw) >= NONCE + TAG else None
    except (binascii.Error, InvalidTag):
        return None


def new_key() -> str:
    """A fresh key as it is written in a ring."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")


def key_beside(database: str | Path) -> tuple[str, bool]:
    """The key ring in the file beside a database (its name and `.key`), made if there is none; whether it was made.

    Readable for its owner alone. Two processes that start at once end up with the same one.
    """
    path = Path(f"{database}.key")
    made = False
    if not path.exists():
        made = _placed(path, new_key() + "\n")
    return path.read_text("ascii").strip(), made


def _placed(path: Path, text: str) -> bool:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # whole or not at all, and never over another's
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True
    finally:
        draft.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decoded(key: str, place: int) -> bytes:
    try:
        raw = base64.b64decode(key, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise KeyRefused(
            f"key {place} of the secret key is not URL-safe base64 of 32 bytes: make one with `{KEY_RECIPE}`"
        )
    return raw


@functools.cache
def _subkey(key: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"relay " + label).derive(key)
