"""Failpoints: inert unless armed, then exactly one death, freeze or error, where and when it was asked for."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import failpoints
from relay.failpoints import KNOWN, Tripped, arm, hit

RELAY = Path(failpoints.__file__).parent
CODE = "from relay.failpoints import arm, hit; arm({plan!r}); hit('work.before_start'); print('alive', flush=True)"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


def a_process(plan: str) -> subprocess.Popen[bytes]:
    """A process that arms the plan and passes `work.before_start` once."""
    command = [sys.executable, "-c", CODE.format(plan=plan)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=RELAY.parent)


def test_nothing_happens_unarmed() -> None:
    """Without a plan every failpoint is passed."""
    for name in KNOWN:
        hit(name)


def test_an_armed_failpoint_fails_once() -> None:
    """It fails at its first hit, under its own name, and no other does, nor does it again."""
    arm("store.before_commit:error")
    hit("store.after_commit")

    with pytest.raises(Tripped, match=r"^store\.before_commit$"):
        hit("store.before_commit")
    hit("store.before_commit")


def test_the_nth_hit_fails() -> None:
    """With a number, that hit is the one."""
    arm("work.before_start:error:3")
    hit("work.before_start")
    hit("work.before_start")

    with pytest.raises(Tripped):
        hit("work.before_start")


def test_several_failpoints_are_armed_at_once() -> None:
    """A plan names as many as it likes, with blanks and empty entries between."""
    arm(" amqp.before_ack:error , ,store.after_commit:error:1,")

    for name in ("store.after_commit", "amqp.before_ack"):
        with pytest.raises(Tripped, match=name):
            hit(name)


def test_a_new_plan_replaces_the_old_one() -> None:
    """Arming anew forgets what was armed."""
    arm("work.before_start:error")
    arm("work.after_start:error")

    hit("work.before_start")


@pytest.mark.parametrize(
    "plan",
    [
        "nowhere:kill",
        "work.before_start",
        "work.before_start:explode",
        "work.before_start:kill:x",
        ":kill",
    ],
)
def test_a_wrong_plan_is_refused(plan: str) -> None:
    """A misspelt failpoint would make a test pass for nothing: it is named, with the form that is due."""
    with pytest.raises(ValueError, match="is not name:kill") as problem:
        arm(plan)

    assert repr(plan) in str(problem.value)


def test_kill_dies_like_kill_9() -> None:
    """Nothing after the failpoint runs, and no handler either."""
    with a_process("work.before_start:kill") as process:
        output, _ = process.communicate()

    assert (-signal.SIGKILL, b"") == (process.returncode, output)


def test_stop_freezes_until_continued() -> None:
    """The process stands still at the failpoint, and goes on from there when it is let."""
    with a_process("work.before_start:stop") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate()

    assert os.WIFSTOPPED(status)
    assert (0, b"alive\n") == (process.returncode, output)


def test_every_failpoint_is_somewhere() -> None:
    """The list of failpoints and the code agree: what is hit is known."""
    hits = {
        line.partition('hit("')[2].partition('"')[0]
        for path in RELAY.rglob("*.py")
        for line in path.read_text().splitlines()
        if 'failpoints.hit("' in line
    }

    assert hits <= set(KNOWN)
