"""Serves methods by aio-pika's JsonRPC, and says so on stdout. A line on stdin lets every `wait` go on.
Ends when stdin does.

usage: rpc_server.py URL EXCHANGE plain|gzip
"""

import asyncio
import gzip
import sys

import aio_pika
from aio_pika.patterns import JsonRPC


gate = asyncio.Event()


class GzipRPC(JsonRPC):
    CONTENT_TYPE = "application/json;compression=gzip"

    def serialize(self, data):
        return gzip.compress(super().serialize(data), compresslevel=6)

    def deserialize(self, data):
        return super().deserialize(gzip.decompress(data))


async def multiply(*, x, y):
    return x * y


async def echo(**kwargs):
    return kwargs


async def nothing():
    return None


async def fail(*, why):
    raise ValueError(why, 7)


async def wait(*, number):
    print(number, flush=True)
    await gate.wait()
    return number


async def unregistered():
    return "never"


async def main(url, exchange, form):
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        kind = GzipRPC if form == "gzip" else JsonRPC
        # RabbitMQ 4.3 takes no queue that is neither durable nor exclusive.
        rpc = await kind.create(channel, exchange=exchange, exclusive=True)
        for function in multiply, echo, nothing, fail, wait, unregistered:
            await rpc.register(function.__name__, function, durable=True)
        await rpc.unregister(unregistered)
        await rpc.unregister(unregistered)
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            gate.set()
        await rpc.close()


asyncio.run(main(*sys.argv[1:]))
