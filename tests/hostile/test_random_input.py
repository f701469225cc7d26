"""Row 38, in short: bytes at random, and frames that are right but for their order and places.

Nothing but a clean close may come of it; the watch sees to the rest. The seeds are fixed,
so that what fails can be run again.
"""

from __future__ import annotations

import random

import pytest

from tests.support import LONG, wire
from tests.support.frames import RawClient
from tests.support.wire import PREFACE, FrameType, Setting

from .watch import Watch

ROUNDS = 2_000 if LONG else 100
GET = b"\x82\x86\x84\x01\x01a"
POST = b"\x83\x86\x04\x05/echo\x01\x01a"


def frames(chance: random.Random) -> list[bytes]:
    """Frames of a few exchanges, each right in its place."""
    found = [wire.settings_frame({Setting.INITIAL_WINDOW_SIZE: chance.randrange(1 << 17)})]
    for stream_id in range(1, 2 * chance.randrange(2, 12), 2):
        found += [
            wire.headers_frames(stream_id, GET),
            wire.headers_frames(stream_id + 20, POST, end_stream=False, split=4),
            wire.data_frame(stream_id + 20, chance.randbytes(chance.randrange(300)), pad=3),
            wire.data_frame(stream_id + 20, end_stream=True),
            wire.window_update_frame(stream_id, chance.randrange(1, 1 << 20)),
            wire.rst_stream_frame(stream_id),
            wire.priority_frame(stream_id, (0, 16, False)),
            wire.priority_update_frame(stream_id, "u=1, i"),
            wire.ping_frame(),
            wire.settings_frame(ack=True),
            wire.frame(chance.randrange(256), chance.randrange(256), stream_id, b"123456"),
        ]
    if chance.random() < 0.1:
        found.append(wire.goaway_frame())
    return found


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 2_000))


def noise_after_the_preface(chance: random.Random) -> bytes:
    return PREFACE + wire.settings_frame() + noise(chance)


def noise_in_frames(chance: random.Random) -> bytes:
    """The headers of frames are likely ones."""
    found = [PREFACE, wire.settings_frame()]
    for _ in range(20):
        kind, flags = chance.choice(list(FrameType)), chance.randrange(256)
        payload = chance.randbytes(chance.randrange(40))
        found.append(wire.frame(kind, flags, chance.randrange(6), payload))
    return b"".join(found)


def shuffled(chance: random.Random) -> bytes:
    found = frames(chance)
    chance.shuffle(found)
    return PREFACE + wire.settings_frame() + b"".join(found)


def damaged(chance: random.Random) -> bytes:
    """In order, but for a bit."""
    found = bytearray(PREFACE + b"".join(frames(chance)))
    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


@pytest.mark.parametrize(
    "make",
    [noise, noise_after_the_preface, noise_in_frames, shuffled, damaged],
    ids=lambda make: make.__name__,
)
def test_row_38_random_input(watch: Watch, make: object) -> None:
    assert callable(make)
    watch.expects_warnings = True
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        data = make(chance)
        with RawClient(watch.server) as client:
            position = 0
            while position < len(data):
                # Cut at random places.
                end = position + chance.randrange(1, len(data) + 1)
                if not client.try_write(data[position:end]):
                    break
                position = end
    watch.note(inputs=ROUNDS)
