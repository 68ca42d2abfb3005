"""A RabbitMQ node of one's own: own ports, name, folder and epmd, as any user, beside whatever else runs.

As a module it is what the tests start, stop, kill and freeze. As a program,

    python -m tests.rabbitmq run -- COMMAND…

it runs COMMAND against the broker that RELAY_TEST_AMQP_URL names or, where it names none, against a private
node that ends with COMMAND. COMMAND finds the URL in RELAY_TEST_AMQP_URL.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self

from tests.ports import free_port

DEBIAN_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
POLICY = Path("/usr/sbin/policy-rc.d")
BOOT_SECONDS = 120
STOP_SECONDS = 60

# Reads until its parent is gone, however that ended, then removes all that the parent may have left behind.
GUARD = 'cat >/dev/null; kill -KILL $(cat "$1"/*.pid 2>/dev/null) 2>/dev/null; rm -rf "$1"'


class Unavailable(Exception):
    """There is no broker to be had. The text says what to do."""


class RabbitMQ:
    """One private node. `start` after `stop` or `kill` brings it back on the same port with the same data.

    Everything is synchronous. Whatever ends the process that made it, the node and its files end too.
    """

    def __init__(self) -> None:
        self._scripts = find_scripts()
        self.port, self._distribution_port, self._epmd_port = (free_port() for _ in range(3))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._folder = Path(tempfile.mkdtemp(prefix="relay-rabbitmq-"))
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The node's process; None while it does not run."""
        return self._server.pid if self._server is not None else None

    def start(self) -> None:
        """Return once the node speaks AMQP (about 8 s); at once if it runs already.

        Raises `Unavailable` with the end of the node's log if it does not come up.
        """
        if self._server is not None and self._server.poll() is None:
            return
        self.kill()
        if self._epmd is None:
            self._epmd = self._spawn("epmd", ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"])
            self._wait_until(lambda: _connects(self._epmd_port), self._epmd)
        self._server = self._spawn("server", [str(self._scripts / "rabbitmq-server")])
        self._wait_until(lambda: _speaks_amqp(self.port), self._server)

    def stop(self) -> None:
        """Shut the node down in good order; its data stay."""
        if self._server is None:
            return
        self._server.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the node as a power cut would (SIGKILL); its data stay."""
        if self._server is not None:
            self._end("server", self._server)
            self._server = None

    def freeze(self) -> None:
        """Stop the node in its tracks (SIGSTOP): connections stay open and nothing answers."""
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` prints for these arguments (about 2 s)."""
        command = [str(self._scripts / "rabbitmqctl"), "--quiet", *arguments]
        try:
            return subprocess.run(
                command,
                env=self._environment(),
                check=True,
                capture_output=True,
                text=True,
                timeout=BOOT_SECONDS,
            ).stdout
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed: {error.stderr or error.stdout}") from error

    def close(self) -> None:
        """End the node and its epmd, and remove its files."""
        self.kill()
        if self._epmd is not None:
            self._end("epmd", self._epmd)
            self._epmd = None
        self._guard.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return kept | {
            "HOME": str(self._folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"relay-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._folder / "config"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_PID_FILE": str(self._folder / "node-id"),
            # The script then becomes the node instead of watching it, so that signals reach the node itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the one who runs the tests, not for the broker
            )
        self._pid_file(name).write_text(f"{process.pid}\n")
        return process

    def _end(self, name: str, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self._pid_file(name).unlink()

    def _wait_until(self, ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = self._log("server" if process is self._server else "epmd").read_text(errors="replace")[-3000:]
                raise Unavailable(f"The private RabbitMQ node did not come up. The end of its log:\n{tail}")
            time.sleep(0.05)

    def _pid_file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def find_scripts() -> Path:
    """The folder of RabbitMQ's own scripts. Raises `Unavailable` where it is not installed.

    Debian's command on the path is a wrapper that changes user; the real one has `rabbitmq-env` beside it.
    """
    on_path = shutil.which("rabbitmq-server")
    candidates = [DEBIAN_SCRIPTS, *([Path(on_path).resolve().parent] if on_path else [])]
    for folder in candidates:
        if (folder / "rabbitmq-server").is_file() and (folder / "rabbitmq-env").is_file():
            return folder
    raise Unavailable("A broker is needed: install rabbitmq-server, or name one in RELAY_TEST_AMQP_URL.")


def installed_version() -> str:
    """The version of the installed RabbitMQ, `unknown` where its folders do not tell."""
    homes = [*find_scripts().parent.glob("lib/rabbitmq_server-*"), find_scripts().parent]
    return next(
        (home.name.removeprefix("rabbitmq_server-") for home in homes if "rabbitmq_server-" in home.name),
        "unknown",
    )


def apt_installed(package: str) -> None:
    """Install a server by apt where that may be done (as root), without leaving it running."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    sys.stderr.write(f"Installing {package}, which the tests start privately …\n")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "-y", "--no-install-recommends", package]
    with _services_not_started():
        for command in (install, [*apt, "update"], install):
            done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
            if done and command is install:
                return


@contextmanager
def _services_not_started() -> Iterator[None]:
    """Debian asks this file before a package starts its service; 101 forbids it."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _speaks_amqp(port: int) -> bool:
    """Whether the server answers the protocol header with its first method frame."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return connection.recv(1) == b"\x01"
    return False


def _run(command: list[str]) -> int:
    """Run the command against a given or a private broker. Returns its exit code as a shell would."""
    given = os.environ.get("RELAY_TEST_AMQP_URL")
    if given:
        return _run_with(given, command)
    try:
        find_scripts()
    except Unavailable:
        apt_installed("rabbitmq-server")
    with RabbitMQ() as node:
        return _run_with(node.url, command)


def _run_with(url: str, command: list[str]) -> int:
    child = subprocess.Popen(command, env=os.environ | {"RELAY_TEST_AMQP_URL": url})

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    # A terminal sends its Ctrl-C to the child as well: here it only must not end the wait.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1:3] != ["run", "--"] or len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        sys.exit(_run(sys.argv[3:]))
    except Unavailable as problem:
        sys.exit(str(problem))
