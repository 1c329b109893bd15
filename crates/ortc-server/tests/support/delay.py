"""A link of Ethernet that takes its time: two TAP interfaces, and what comes on one leaves on the
other so many milliseconds later. Where the kernel has no netem, this is the next best.

    delay.py ONE OTHER MILLISECONDS

makes them in this network namespace, says so, and goes on until its input ends.
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000

# Frames that wait in one direction; those beyond are lost, as in any queue.
MOST = 10_000


def tap(name):
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return end


def read(end):
    while True:
        try:
            yield os.read(end, 65536)
        except OSError:
            # Nothing more, or the interface is down.
            return


def main():
    ends = [tap(sys.argv[1]), tap(sys.argv[2])]
    delay = int(sys.argv[3]) / 1000
    waiting = [collections.deque(), collections.deque()]
    print("ready", flush=True)
    while True:
        dues = [queue[0][0] for queue in waiting if queue]
        wait = max(0, min(dues) - time.monotonic()) if dues else None
        ready, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in ready and not sys.stdin.read(1):
            return
        now = time.monotonic()
        for index, end in enumerate(ends):
            if end in ready:
                for frame in read(end):
                    if len(waiting[index]) < MOST:
                        waiting[index].append((now + delay, frame))
        for index, queue in enumerate(waiting):
            while queue and queue[0][0] <= time.monotonic():
                _, frame = queue.popleft()
                try:
                    os.write(ends[1 - index], frame)
                except OSError:
                    # The other interface is down.
                    pass


main()
