"""Starting the server."""

from __future__ import annotations

import asyncio
import socket

import pytest

from polytask.errors import PolytaskError
from polytask.serving.run import listening


def test_connections_send_small_responses_at_once() -> None:
    """Nagle's algorithm holds back the second part of a response until the client acknowledges the first: 40 ms."""

    async def is_nodelay_set() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        listener = listening("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            is_set = await found
            writer.close()
        return is_set

    assert asyncio.run(is_nodelay_set())


def test_a_port_in_use_is_refused() -> None:
    with listening("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(PolytaskError, match=str(listener.getsockname()[1])):
            listening("127.0.0.1", listener.getsockname()[1])
