"""A TCP proxy on loopback that delays every byte in both directions, without limiting the throughput.

    delay.py LISTEN-PORT PORT SECONDS
"""
import asyncio
import sys

LISTEN, PORT, DELAY = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


async def carry(reader, writer):
    queue = asyncio.Queue()

    async def deliver():
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not chunk:
                writer.close()
                return
            writer.write(chunk)

    loop = asyncio.get_running_loop()
    delivery = asyncio.create_task(deliver())
    try:
        while chunk := await reader.read(1 << 16):
            queue.put_nowait((loop.time() + DELAY, chunk))
    except ConnectionError:
        pass
    queue.put_nowait((loop.time() + DELAY, b""))
    await delivery


async def serve(reader, writer):
    to_reader, to_writer = await asyncio.open_connection("127.0.0.1", PORT)
    await asyncio.gather(carry(reader, to_writer), carry(to_reader, writer), return_exceptions=True)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", LISTEN)
    await server.serve_forever()


asyncio.run(main())
