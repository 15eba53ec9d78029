"""A WebSocket client by `websockets` with as many connections as it is told, all open at the same time.
Goes on from one part to the next when it reads a line: open, exchange, close."""

import asyncio
import collections
import json
import os
import resource
import sys

import websockets

ADDRESS, COUNT = sys.argv[1], int(sys.argv[2])
OPTIONS = {"max_size": 4 << 20, "open_timeout": 120, "close_timeout": 120, "ping_interval": None}
# Opened, and large messages exchanged, at one time.
AT_ONCE = 50
# So many connections exchange a message of 1 MiB, at one time.
LARGE = 20


def close_code(number):
    return 4000 + number % 7


async def told():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def all_of(work, connections):
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number, connection):
        async with gate:
            return await work(number, connection)

    return await asyncio.gather(*(one(*pair) for pair in enumerate(connections)))


async def open_one(number, _):
    return await websockets.connect(f"ws://{ADDRESS}/{number}", **OPTIONS)


async def exchange(number, connection):
    messages = [f"text {number}", f"ümläute {number}", bytes([number % 256]) * 3000, "", b""]
    if number < LARGE:
        # Nothing that compresses.
        messages.append(os.urandom(1 << 20))
    for message in messages:
        await connection.send(message)
        assert await connection.recv() == message
    # Several on their way at once come back in order.
    for part in range(10):
        await connection.send(f"{number} {part}")
    for part in range(10):
        assert await connection.recv() == f"{number} {part}"
    await (await connection.ping(number.to_bytes(4, "big")))


async def close(number, connection):
    code = close_code(number)
    if number % 2 == 0:
        await connection.close(code, f"reason {number}")
        return
    await connection.send(f"close {code} reason {number}")
    try:
        await connection.recv()
        raise AssertionError("it is open")
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == code and closed.rcvd.reason == f"reason {number}", closed


async def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections = await all_of(open_one, range(COUNT))
    await connections[0].send("forget")
    print("opened", flush=True)
    await told()
    await all_of(exchange, connections)
    print("exchanged", flush=True)
    await told()
    await all_of(close, connections)
    expected = collections.Counter(close_code(number) for number in range(0, COUNT, 2))
    async with websockets.connect(f"ws://{ADDRESS}/report", **OPTIONS) as connection:
        codes = None
        # The last ones may still be on their way; a wrong one never becomes right.
        while codes is None or codes.total() < expected.total():
            await connection.send("report")
            counted = json.loads(await connection.recv())
            codes = collections.Counter({int(code): count for code, count in counted.items()})
        assert codes == expected, codes
    print("closed", flush=True)


asyncio.run(main())
