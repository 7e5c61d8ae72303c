"""One end of a transfer. The sender leaves without closing anything as soon as its last send has
returned; the receiver prints the SHA-256 of what came. Arguments: send|receive listen|connect host
port bytes."""
import hashlib
import os
import random
import socket
import sys

role, side, host, port, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])

if side == "listen":
    with socket.create_server(("0.0.0.0", port)) as listener:
        connection, _ = listener.accept()
else:
    connection = socket.create_connection((host, port), timeout=60)
connection.settimeout(60)

if role == "send":
    connection.sendall(random.Random(1).randbytes(size))
    os._exit(0)

digest = hashlib.sha256()
while chunk := connection.recv(1 << 16):
    digest.update(chunk)
expected = hashlib.sha256(random.Random(1).randbytes(size)).hexdigest()
sys.exit(0 if digest.hexdigest() == expected else "other bytes have arrived than were sent")
