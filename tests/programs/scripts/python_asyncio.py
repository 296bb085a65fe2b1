"""asyncio: TCP, UNIX and UDP servers, children, signals, time-outs, threads."""
import asyncio
import os
import signal
import tempfile


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def client(port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"m%d" % number * 1000)
    writer.write_eof()
    data = await reader.read()
    writer.close()
    return len(data)


class Reverse(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data[::-1], address)


class Take(asyncio.DatagramProtocol):
    def __init__(self, future):
        self.future = future

    def datagram_received(self, data, address):
        self.future.set_result(data)


async def sockets():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(sum(await asyncio.gather(*(client(port, n) for n in range(50)))))
    server.close()
    with tempfile.TemporaryDirectory() as directory:
        await asyncio.start_unix_server(echo, directory + "/socket")
        reader, writer = await asyncio.open_unix_connection(directory + "/socket")
        writer.write(b"unix")
        writer.write_eof()
        print(await reader.read())
        writer.close()
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Reverse, ("127.0.0.1", 0))
    came = loop.create_future()
    mine, _ = await loop.create_datagram_endpoint(lambda: Take(came), remote_addr=server.get_extra_info("sockname"))
    mine.sendto(b"abc")
    print(await came)
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except OSError as error:
        print(error)


async def main():
    await sockets()
    cat = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print(await cat.communicate(b"child"))
    shell = await asyncio.create_subprocess_shell("exit 5")
    print(await shell.wait())
    came = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, came.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await came.wait()
    try:
        await asyncio.wait_for(asyncio.sleep(99), 0.05)
    except asyncio.TimeoutError:
        print("timeout")
    print(await asyncio.to_thread(lambda: 3))


asyncio.run(main())
