"""subprocess and multiprocessing: pools, queues, shared memory, locks, start methods."""
import multiprocessing as mp
import os
import subprocess
import sys
import time
from multiprocessing import shared_memory


def square(x):
    return x * x


def serve(requests, replies):
    for x in iter(requests.get, None):
        replies.put(x + 1)


def count(value, lock):
    for _ in range(100):
        with lock:
            value.value += 1


def write_shared(name):
    shared = shared_memory.SharedMemory(name)
    shared.buf[0] = 42
    shared.close()


def together(event, barrier):
    event.wait()
    barrier.wait()


def run_all(processes):
    for process in processes:
        process.start()
    return processes


def processes():
    print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True))
    large = b"x" * 2_000_000
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    print(cat.communicate(large)[0] == large)
    try:
        subprocess.run(["sleep", "99"], timeout=0.1)
    except subprocess.TimeoutExpired:
        print("timeout")
    session = subprocess.Popen(["sleep", "99"], start_new_session=True)
    os.killpg(session.pid, 9)
    print(session.wait())
    r, w = os.pipe()
    print(subprocess.run(["sh", "-c", f"echo through >&{w}"], pass_fds=[w]).returncode, os.read(r, 10))
    try:
        subprocess.run(["/nosuch"])
    except FileNotFoundError as error:
        print(error)
    print(sum(p.wait() for p in [subprocess.Popen(["sh", "-c", "exit 2"]) for _ in range(30)]))


def pools():
    with mp.Pool(4) as pool:
        print(pool.map(square, range(20)), pool.apply_async(square, (9,)).get())
    for method in "spawn", "forkserver":
        with mp.get_context(method).Pool(2) as pool:
            print(method, pool.map(square, range(4)))


def shared():
    requests, replies = mp.Queue(), mp.Queue()
    servers = run_all([mp.Process(target=serve, args=(requests, replies)) for _ in range(3)])
    for x in [*range(50), None, None, None]:
        requests.put(x)
    print(sorted(replies.get() for _ in range(50)))
    value, lock = mp.Value("i", 0), mp.Lock()
    counters = run_all([mp.Process(target=count, args=(value, lock)) for _ in range(4)])
    for process in servers + counters:
        process.join()
    print(value.value)
    memory = shared_memory.SharedMemory(create=True, size=10000)
    (writer,) = run_all([mp.Process(target=write_shared, args=(memory.name,))])
    writer.join()
    print(memory.buf[0])
    memory.close()
    memory.unlink()
    event, barrier = mp.Event(), mp.Barrier(3)
    waiting = run_all([mp.Process(target=together, args=(event, barrier)) for _ in range(2)])
    event.set()
    barrier.wait()
    for process in waiting:
        process.join()
    (ended,) = run_all([mp.Process(target=sys.exit, args=(7,))])
    (killed,) = run_all([mp.Process(target=time.sleep, args=(99,))])
    killed.terminate()
    killed.join()
    ended.join()
    print(ended.exitcode, killed.exitcode)


if __name__ == "__main__":
    processes()
    pools()
    shared()
