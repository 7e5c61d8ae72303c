"""Connections that may carry their first data in the SYN (RFC 7413). Arguments: host, port.

For each one, prints the way it was asked for and whether its SYN's data was taken (TCP_INFO)."""
import socket
import sys

server = (sys.argv[1], int(sys.argv[2]))
TCP_FASTOPEN_CONNECT = 30
TCPI_OPT_SYN_DATA = 32
DATA = bytes(range(250)) * 4


def message(peer, blocking):
    peer.setblocking(blocking)
    return peer.sendto(DATA, socket.MSG_FASTOPEN, server)


def deferred(peer):
    peer.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    peer.connect(server)
    return peer.send(DATA)


WAYS = {
    "blocking": lambda peer: message(peer, True),
    "nonblocking": lambda peer: message(peer, False),
    "deferred": deferred,
}

for way in ("blocking", "blocking", "nonblocking", "deferred"):
    with socket.socket() as peer:
        sent = WAYS[way](peer)
        peer.settimeout(30)
        peer.sendall(DATA[sent:])
        answer = b""
        while len(answer) < len(DATA):
            answer += peer.recv(65536) or sys.exit("the answer ends early")
        if answer != DATA:
            sys.exit("the answer differs")
        info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        print(way, "early" if info[5] & TCPI_OPT_SYN_DATA else "late")
