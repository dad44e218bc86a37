"""The least that Python can do: recvmmsg by ctypes, frames packed behind their capture time,
published through paho.

``python -m tests.bench.peers.bare_batcher SOURCE BROKER_PORT TOPIC QOS``. A window of 10 ms, up to
1024 frames a batch, 24 bytes a frame, and nothing else: no process boundary, no numbering, no count
of what was lost, no other traffic.
"""

from __future__ import annotations

import ctypes
import select
import socket
import sys
import time

from tests.bench.harness import say
from tests.bench.peers.wire import connected, open_source

VECTOR = 1024
WINDOW = 0.010
RECORD = 24  # sec, nsec, struct can_frame
CONTROL = 32  # cmsghdr and timespec
RECEIVE_BUFFER = 4 * 1024 * 1024


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class MMsgHdr(ctypes.Structure):
    """struct mmsghdr with its msghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(IoVec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("len", ctypes.c_uint32),
    ]


def main() -> None:
    """Forward until it is killed."""
    source, broker, topic, qos = sys.argv[1:]
    sock, port = open_source(source)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client = connected(int(broker), "bare-batcher")
    records, control = bytearray(VECTOR * RECORD), bytearray(VECTOR * CONTROL)
    at = ctypes.addressof((ctypes.c_char * len(records)).from_buffer(records))
    control_at = ctypes.addressof((ctypes.c_char * len(control)).from_buffer(control))
    vectors = (IoVec * VECTOR)(*(IoVec(at + i * RECORD + 8, RECORD - 8) for i in range(VECTOR)))
    headers = (MMsgHdr * VECTOR)()
    for i, header in enumerate(headers):
        header.iov, header.iovlen = ctypes.pointer(vectors[i]), 1
        header.control, header.controllen = control_at + i * CONTROL, CONTROL
    words, stamps = memoryview(records).cast("I"), memoryview(control).cast("I")
    recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    say("ready", port=port)
    while True:
        poll.poll()
        time.sleep(WINDOW)
        n = VECTOR
        while n == VECTOR:
            n = recvmmsg(sock.fileno(), headers, VECTOR, socket.MSG_DONTWAIT, None)
            if n <= 0:
                break
            words[0 : n * 6 : 6] = stamps[
                4 : n * 8 : 8
            ]  # seconds; the upper half of each 64 bit word is 0
            words[1 : n * 6 : 6] = stamps[6 : n * 8 : 8]  # nanoseconds
            client.publish(topic, bytes(memoryview(records)[: n * RECORD]), int(qos))


if __name__ == "__main__":
    main()
