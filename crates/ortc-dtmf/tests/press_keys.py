"""Presses keys on a GStreamer pipeline: PIPELINE DIGITS METHOD (1: packets, 2: sound).

gst-launch cannot: rtpdtmfsrc and dtmfsrc only do something when they are sent an event.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst

DIGITS = "0123456789*#ABCD"
# Shorter ones are made longer by the elements, and queued.
HELD_MS, PAUSE_MS = 260, 160

Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[1])
digits, method = sys.argv[2], int(sys.argv[3])
loop = GLib.MainLoop()


def send(**fields):
    event = Gst.Structure.new_empty("dtmf-event")
    for name, value in {"type": 1, "method": method, **fields}.items():
        event.set_value(name, value)
    pipeline.send_event(Gst.Event.new_custom(Gst.EventType.CUSTOM_UPSTREAM, event))


def press(at):
    if at == len(digits):
        # Until what is still queued has been sent.
        GLib.timeout_add(5_000, loop.quit)
        return
    send(start=True, number=DIGITS.index(digits[at]), volume=10)
    GLib.timeout_add(HELD_MS, release, at)


def release(at):
    send(start=False)
    GLib.timeout_add(PAUSE_MS, press, at + 1)


pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add(PAUSE_MS, press, 0)
loop.run()
pipeline.set_state(Gst.State.NULL)
