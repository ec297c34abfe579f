"""What goes between the worker and a policy's process: msgpack behind a length. Pure.

The worker trusts nothing that comes: a reply longer than a true one can be, and bytes that are no reply, are UNREADABLE. So the
loop never reads more than the request asked for.
"""

import struct

import msgspec

from serving_worker.isolation.reasons import Degraded, Unanswered
from serving_worker.rankers.ranking import Query

MESSAGE_CHARACTERS_MAX = 500
"""What a policy may say about a refusal."""
REPLY_BYTES_MAX = 4_096
"""Of a reply without items: 500 characters of four bytes, and what stands around them."""
ITEM_BYTES_MAX = 32
"""Of an item beside its name: two numbers of 9 bytes, and lengths."""

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


class Question(msgspec.Struct, frozen=True):
    """`seed` and the query draw the same answer in any process."""

    query: Query
    seed: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The first reply of a process that has started: the ranker's version."""

    version: str


class Item(msgspec.Struct, frozen=True, array_like=True):
    item_id: str
    propensity: float | None
    score: float | None


class Answer(msgspec.Struct, frozen=True, tag=True):
    items: list[Item]
    log_propensity: float | None


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """No ranking. `reason` is a member of Degraded where it is our own host that speaks."""

    reason: str
    message: str


Reply = Ready | Answer | Refusal

_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Question)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def frame(message: Question | Reply) -> bytes:
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


def refusal(reason: Degraded, message: str) -> Refusal:
    """With as much of `message` as may be said, as text that can be written: half of a surrogate pair cannot."""
    return Refusal(reason, message.encode(errors="backslashreplace").decode()[:MESSAGE_CHARACTERS_MAX])


def length_of(head: bytes) -> int:
    (length,) = _LENGTH.unpack(head)
    return int(length)


def read_question(payload: bytes) -> Question:
    """What the worker wrote."""
    return _questions.decode(payload)


def read_reply(payload: bytes) -> Reply:
    """Raises Unanswered."""
    try:
        return _replies.decode(payload)
    except (ValueError, RecursionError) as error:  # text that is not UTF-8 is no DecodeError of msgspec's
        raise Unanswered(Degraded.UNREADABLE, f"not a reply: {error}") from error


def reply_bytes_max(k: int, item_bytes: int) -> int:
    """Of a true answer with `k` items whose names have up to `item_bytes`, and of one with an item too many."""
    return REPLY_BYTES_MAX + (k + 1) * (item_bytes + ITEM_BYTES_MAX)


class FrameBuffer:
    """Bytes as they come, cut into payloads of up to `bytes_max`."""

    def __init__(self) -> None:
        self.bytes_max = REPLY_BYTES_MAX
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now.

        Raises Unanswered where a length is above the bound; nothing more can be cut then.
        """
        self._bytes += data
        payloads = []
        while len(self._bytes) >= LENGTH_BYTES:
            end = LENGTH_BYTES + length_of(bytes(self._bytes[:LENGTH_BYTES]))
            if end > LENGTH_BYTES + self.bytes_max:
                raise Unanswered(Degraded.UNREADABLE, f"a reply of {end - LENGTH_BYTES} bytes, where {self.bytes_max} may be")
            if len(self._bytes) < end:
                break
            payloads.append(bytes(self._bytes[LENGTH_BYTES:end]))
            del self._bytes[:end]
        return payloads
