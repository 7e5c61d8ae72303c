"""Sends noise over many connections at once and checks the echo. Arguments: host port connections bytes."""
import asyncio
import random
import sys


async def one(host, port, size, seed):
    data = random.Random(seed).randbytes(size)
    reader, writer = await asyncio.open_connection(host, port)

    async def send():
        for start in range(0, size, 50_000):
            writer.write(data[start:start + 50_000])
            await writer.drain()
        writer.write_eof()

    _, echoed = await asyncio.gather(send(), reader.read(-1))
    writer.close()
    await writer.wait_closed()
    assert echoed == data, f"connection {seed}: {len(echoed)} of {size} bytes, or other bytes"


async def main():
    host, port, connections, size = sys.argv[1], *map(int, sys.argv[2:5])
    await asyncio.gather(*(one(host, port, size, seed) for seed in range(connections)))
    print("echoed", connections * size)


asyncio.run(main())
