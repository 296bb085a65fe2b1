"""Processes, threads and asyncio over loopback, with the standard library alone."""

import asyncio
import hashlib
import multiprocessing
import os
import platform
import queue
import subprocess
import threading


def digest(number):
    """Work that a process can do alone."""
    return number, os.getpid(), hashlib.sha256(str(number).encode() * 100_000).hexdigest()[:12]


def processes():
    with multiprocessing.Pool(2) as pool:
        results = pool.map(digest, range(8))
    print(f"- {len(results)} digests by {len({pid for _, pid, _ in results})} processes: {results[0][2]} …")
    child = subprocess.run(["tr", "a-z", "A-Z"], input="a child says hello", capture_output=True, text=True, check=True)
    print(f"- subprocess: {child.stdout}")


def threads():
    todo, done = queue.Queue(), queue.Queue()

    def work():
        while (number := todo.get()) is not None:
            done.put(number * number)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for number in range(1000):
        todo.put(number)
    for _ in workers:
        todo.put(None)
    for worker in workers:
        worker.join()
    print(f"- {len(workers)} threads, sum of squares {sum(done.get() for _ in range(1000))}")


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def client(port, rounds):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(rounds):
        writer.write(f"{number}\n".encode())
        assert int(await reader.readline()) == number
    writer.close()
    await writer.wait_closed()
    return rounds


async def loopback():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        rounds = await asyncio.gather(*(client(port, 100) for _ in range(10)))
    print(f"- asyncio: {len(rounds)} TCP connections, {sum(rounds)} echoes")


if __name__ == "__main__":
    print(f"python {platform.python_version()}, pid {os.getpid()}")
    processes()
    threads()
    asyncio.run(loopback())
