"""What random bytes are drawn from."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from relay import entropy

FORKED = """
import os
from relay import entropy

entropy.draw(1)
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, entropy.draw(16))
    os._exit(0)
child = os.read(read, 16)
os.wait()
print(len(child), child != entropy.draw(16))
"""


def test_nothing_is_drawn_twice() -> None:
    """Many threads draw what nobody else does, over the ends of pages too."""
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: entropy.draw(12), range(20_000)))

    assert {12} == {len(each) for each in drawn}
    assert 20_000 == len(set(drawn))


def test_a_whole_page_can_be_drawn() -> None:
    """Whatever is left of the last one."""
    entropy.draw(1)

    assert entropy.PAGE == len(entropy.draw(entropy.PAGE))


def test_a_forked_process_draws_others() -> None:
    """A nonce that two processes draw would open what both have sealed."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)

    assert "16 True" == done.stdout.strip()
