"""A PostgreSQL server of one's own: own port, folder and processes, beside whatever else runs.

As a module it is what the tests start and stop. As a program,

    python -m tests.postgres

it sees to it that there is one for the tests to start: it installs PostgreSQL by apt where it is missing and that may
be done, and says in one line what to do where it may not. Nothing is asked for where RELAY_TEST_POSTGRES_URL names
a server.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.ports import free_port
from tests.rabbitmq import Unavailable, apt_installed

DEBIAN_HOMES = Path("/usr/lib/postgresql")
BOOT_SECONDS = 60
NEEDED = "PostgreSQL is needed: install postgresql, or name a server in RELAY_TEST_POSTGRES_URL."

# Durable against the death of its processes, not of the machine: the tests end only the former.
SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "60", "jit": "off"}

# Reads until its parent is gone, however that ended, then removes all that the parent may have left behind. A server
# is killed by its first process's id; the others see that it is gone, and end.
GUARD = 'cat >/dev/null; kill -KILL $(head -n 1 "$1"/data/postmaster.pid 2>/dev/null) 2>/dev/null; rm -rf "$1"'


class PostgreSQL:
    """One private server. `start` after `stop` or `kill` brings it back on the same port with the same data.

    Everything is synchronous. Whatever ends the process that made it, the server and its files end too. `settings`
    are the server's own, over those that the tests have.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = SETTINGS | settings
        self._programs = find_programs()
        self._user = _somebody()
        self.port = free_port()
        self.url = f"postgresql://relay@127.0.0.1:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="relay-postgres-"))
        self._data = self._folder / "data"
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's first process; None while it does not run."""
        return self._server.pid if self._server is not None else None

    def start(self) -> None:
        """Return once the server takes connections (2 s the first time, then 0.2 s); at once if it runs already.

        Raises `Unavailable` with the end of the server's log if it does not come up.
        """
        if self._server is not None and self._server.poll() is None:
            return
        if not self._data.exists():
            self._make_data()
        settings = self._settings | {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._server = self._spawn([str(self._programs / "postgres"), "-D", str(self._data), *options])
        self._wait_until_ready(self._server)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Shut the server down, its data stay: SIGINT breaks connections off (fast), SIGQUIT all work (immediate)."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(BOOT_SECONDS)
            self._server = None

    def close(self) -> None:
        """End the server, and remove its files."""
        self.stop(signal.SIGQUIT)
        self._guard.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_data(self) -> None:
        if self._user:
            shutil.chown(self._folder, **self._user)
        command = [
            str(self._programs / "initdb"),
            "--pgdata",
            str(self._data),
            "--username",
            "relay",
            "--auth",
            "trust",
        ]
        command += ["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]
        made = self._spawn(command)
        if made.wait() != 0:
            raise Unavailable(f"The private PostgreSQL could not be made:\n{self._tail()}")

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the one who runs the tests, not for the server
                **_as_user(self._user),
            )

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return kept | {"HOME": str(self._folder), "LC_ALL": "C"}

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not _takes_connections(self.port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"The private PostgreSQL did not come up. The end of its log:\n{self._tail()}")
            time.sleep(0.02)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"


def find_programs() -> Path:
    """The folder of the newest installed PostgreSQL's programs. Raises `Unavailable` where there is none."""
    on_path = shutil.which("postgres")
    homes = [home for home in DEBIAN_HOMES.glob("*") if home.name.isdigit() and (home / "bin" / "initdb").is_file()]
    newest = sorted(homes, key=lambda home: int(home.name))[-1:]
    for folder in [*(home / "bin" for home in newest), *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise Unavailable(NEEDED)


def installed_version() -> str:
    """The version of the PostgreSQL that the tests would start. Raises `Unavailable` where there is none."""
    told = subprocess.run([find_programs() / "postgres", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"\d+(\.\d+)*", told.stdout)
    return found.group() if found else "unknown"


def _somebody() -> dict[str, str]:
    """Who runs the server: PostgreSQL refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    with suppress(KeyError):
        pwd.getpwnam("postgres")
        return {"user": "postgres", "group": "postgres"}
    return {"user": "nobody", "group": "nogroup"}


def _as_user(user: Mapping[str, str]) -> Mapping[str, Any]:
    return {**user, "extra_groups": []} if user else {}


def _takes_connections(port: int) -> bool:
    """Whether the server greets a user instead of saying that it is still starting."""
    asked = b"\x00\x03\x00\x00user\x00relay\x00database\x00postgres\x00\x00"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall((len(asked) + 4).to_bytes(4, "big") + asked)
        return connection.recv(1) == b"R"
    return False


def _see_to_it() -> None:
    """Have PostgreSQL installed, or raise `Unavailable`."""
    if os.environ.get("RELAY_TEST_POSTGRES_URL"):
        return
    try:
        find_programs()
    except Unavailable:
        apt_installed("postgresql")
        find_programs()


if __name__ == "__main__":
    try:
        _see_to_it()
    except Unavailable as problem:
        sys.exit(str(problem))
