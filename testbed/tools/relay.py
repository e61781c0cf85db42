#!/usr/bin/python3
"""Relays the connections of a unix socket to another one until it is killed, so that they can be cut.

    relay.py LISTEN TARGET
"""

import asyncio
import contextlib
import pathlib
import sys


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    writer.close()


async def connection(reader, writer):
    try:
        far_reader, far_writer = await asyncio.open_unix_connection(sys.argv[2])
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


async def main():
    pathlib.Path(sys.argv[1]).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(connection, sys.argv[1])
    await server.serve_forever()


asyncio.run(main())
