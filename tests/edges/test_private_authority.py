"""How a receiver's certificate of a private authority is accepted: by the environment that relay was started with."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.edges import http_peers as peers
from tests.edges.http_peers import Authority, replying, serving

SEND = """
import asyncio, sys
from relay.core.egress import EgressPolicy
from relay.edges.http import WebhookSender
from relay.ports import NotAnswered, Outbound

async def send():
    sender = WebhookSender(EgressPolicy.of(["127.0.0.1"]), lambda: 0.0)
    try:
        return (await sender.send(Outbound(method="POST", url=sys.argv[1], headers={}, body=b"{}"))).status
    except NotAnswered as error:
        return str(error).split(": ")[1]
    finally:
        await sender.close()

print(asyncio.run(send()))
"""


@pytest.mark.parametrize(("known", "said"), [(True, "200"), (False, "its certificate is not accepted")])
async def test_the_environment_names_a_private_authority(tmp_path: Path, known: bool, said: str) -> None:
    """A certificate of an authority in SSL_CERT_FILE is accepted; the same one is not where it is not named."""
    authority = Authority(tmp_path)
    environment = {**os.environ, **({"SSL_CERT_FILE": authority.file} if known else {})}
    async with serving(replying(peers.OK), tls=authority.server("hook")) as peer:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SEND, peer.url, env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()

    assert said == output.decode().strip()
