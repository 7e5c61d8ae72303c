"""Stores and fetches values over many connections, a thread each. Arguments: host port connections."""
import random
import socket
import sys
import threading

host, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
failures = []


def work(seed):
    noise = random.Random(seed)
    with socket.create_connection((host, port), timeout=60) as connection:
        stream = connection.makefile("rwb")
        for round in range(20):
            key, value = f"key-{seed}-{round}".encode(), noise.randbytes(noise.randrange(100_000))
            stream.write(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
            stream.flush()
            assert stream.readline() == b"STORED\r\n"
            stream.write(b"get %s\r\n" % key)
            stream.flush()
            assert stream.readline() == b"VALUE %s 0 %d\r\n" % (key, len(value))
            assert stream.read(len(value) + 2) == value + b"\r\n"
            assert stream.readline() == b"END\r\n"


def attempt(seed):
    try:
        work(seed)
    except Exception as error:
        failures.append(f"connection {seed}: {error!r}")


threads = [threading.Thread(target=attempt, args=(seed,)) for seed in range(connections)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\n".join(failures) or 0)
