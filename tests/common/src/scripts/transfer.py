"""One end of a transfer. The sender leaves without closing anything as soon as its last send has
returned; the receiver prints the SHA-256 of what came. Arguments: send|receive listen|connect host
port bytes."""
import errno
import hashlib
import os
import random
import socket
import sys
import time

PATIENCE = 100  # seconds: on a bad link a time-out backs off for long


def connect(address):
    """A link that loses much may lose every question for the neighbour's address, too."""
    for tries_left in reversed(range(5)):
        try:
            return socket.create_connection(address, timeout=PATIENCE)
        except OSError as error:
            if error.errno != errno.EHOSTUNREACH or tries_left == 0:
                raise
            time.sleep(1)


role, side, host, port, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])

if side == "listen":
    with socket.create_server(("0.0.0.0", port)) as listener:
        connection, _ = listener.accept()
else:
    connection = connect((host, port))
connection.settimeout(PATIENCE)

if role == "send":
    connection.sendall(random.Random(1).randbytes(size))
    os._exit(0)

digest = hashlib.sha256()
while chunk := connection.recv(1 << 16):
    digest.update(chunk)
expected = hashlib.sha256(random.Random(1).randbytes(size)).hexdigest()
sys.exit(0 if digest.hexdigest() == expected else "other bytes have arrived than were sent")
