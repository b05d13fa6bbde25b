"""Creates tasks by aio-pika's JsonMaster or CompressedJsonMaster: n from 0 to COUNT - 1.

usage: master.py URL QUEUE plain|gzip COUNT
"""

import asyncio
import sys

import aio_pika
from aio_pika.patterns import JsonMaster
from aio_pika.patterns.master import CompressedJsonMaster


async def main(url, queue, form, count):
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        master = (CompressedJsonMaster if form == "gzip" else JsonMaster)(channel)
        for n in range(int(count)):
            await master.create_task(queue, {"n": n, "text": "ü" * n})
        print("done", flush=True)


asyncio.run(main(*sys.argv[1:]))
