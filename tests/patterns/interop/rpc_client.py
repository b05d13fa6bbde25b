"""Calls methods by aio-pika's JsonRPC, as JSON lines on stdin tell, and writes what comes of each as a JSON line.

usage: rpc_client.py URL EXCHANGE plain|gzip

A line is {"method": .., "kwargs": .., "expiration": seconds or null}, or "close".
"""

import asyncio
import gzip
import json
import sys

import aio_pika
from aio_pika.exceptions import MessageProcessError
from aio_pika.patterns import JsonRPC
from aio_pika.patterns.rpc import JsonRPCError


class GzipRPC(JsonRPC):
    CONTENT_TYPE = "application/json;compression=gzip"

    def serialize(self, data):
        return gzip.compress(super().serialize(data), compresslevel=6)

    def deserialize(self, data):
        return super().deserialize(gzip.decompress(data))


async def outcome(rpc, call):
    try:
        result = await asyncio.wait_for(
            rpc.call(call["method"], call.get("kwargs"), expiration=call.get("expiration")), 20
        )
    except MessageProcessError as error:
        return {"unroutable": error.args[0]}
    except JsonRPCError as error:
        return {"remote": error.args[1]["error"]}
    except asyncio.TimeoutError as error:
        # That of aio-pika has arguments, that of wait_for has none.
        return {"timeout": error.args[0] if error.args else None}
    return {"result": result}


async def main(url, exchange, form):
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        kind = GzipRPC if form == "gzip" else JsonRPC
        # RabbitMQ 4.3 takes no queue that is neither durable nor exclusive.
        rpc = await kind.create(channel, exchange=exchange, exclusive=True)
        print("ready", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            calls = json.loads(line)
            results = await asyncio.gather(*(outcome(rpc, call) for call in calls))
            print(json.dumps(results), flush=True)
        await rpc.close()


asyncio.run(main(*sys.argv[1:]))
