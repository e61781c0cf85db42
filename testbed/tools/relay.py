#!/usr/bin/python3
"""Hands a unix socket's connections on to another, until it is killed: a cable that can be cut.

    relay.py LISTEN TARGET
"""

import asyncio
import contextlib
import pathlib
import sys


async def pour(reader, writer):
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
    await asyncio.gather(pour(reader, far_writer), pour(far_reader, writer))


async def main():
    pathlib.Path(sys.argv[1]).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(connection, sys.argv[1])
    await server.serve_forever()


asyncio.run(main())
