"""A WebSocket echo by `websockets` for many connections at once. `close CODE REASON` makes it close with
that code; `report` is answered with the codes that clients have closed with, and how many each, since `forget`."""

import asyncio
import collections
import json
import resource

import websockets

codes = collections.Counter()


async def echo(connection):
    try:
        while True:
            message = await connection.recv()
            if message == "forget":
                codes.clear()
            elif message == "report":
                await connection.send(json.dumps(codes))
            elif isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                await connection.close(int(code), reason)
                return
            else:
                await connection.send(message)
    except websockets.ConnectionClosed as closed:
        codes[closed.rcvd.code if closed.rcvd else "none"] += 1


async def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options = {"max_size": 4 << 20, "open_timeout": 120, "close_timeout": 120, "ping_interval": None}
    async with websockets.serve(echo, "127.0.0.1", 0, backlog=2048, **options) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening 127.0.0.1:{port}", flush=True)
        await asyncio.Future()


asyncio.run(main())
