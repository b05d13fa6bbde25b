"""Works by aio-pika's JsonMaster or CompressedJsonMaster, and writes what each task was as a JSON line.

usage: worker.py URL QUEUE plain|gzip

A task with n < 50 is rejected without requeue, one with n > 100 is nacked without requeue.
"""

import asyncio
import json
import sys

import aio_pika
from aio_pika.patterns import JsonMaster, NackMessage, RejectMessage
from aio_pika.patterns.master import CompressedJsonMaster


async def work(*, n, text=""):
    print(json.dumps([n, text]), flush=True)
    if n < 50:
        raise RejectMessage(requeue=False)
    if n > 100:
        raise NackMessage(requeue=False)


async def main(url, queue, form):
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        master = (CompressedJsonMaster if form == "gzip" else JsonMaster)(channel)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue + ".dead"}
        worker = await master.create_worker(queue, work, durable=True, arguments=arguments)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await worker.close()


asyncio.run(main(*sys.argv[1:]))
