"""A WebSocket client by `websockets`: texts and bytes of several sizes, a ping, an orderly close."""

import asyncio
import os
import sys

import websockets


async def main():
    async with websockets.connect(f"ws://{sys.argv[1]}/chat") as connection:
        for message in ("", "text", "ümläute", os.urandom(100_000), "x" * 500_000):
            await connection.send(message)
            assert await connection.recv() == message
        await (await connection.ping())
    print("websocket ok")


asyncio.run(main())
