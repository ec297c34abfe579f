"""HTTP content encodings, both ways: gzip, deflate, lz4 (frames), zstd. Pure streams of bytes.

`br` is refused by name: no Brotli library is among this project's dependencies.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.frame
import zstandard

from deploy.local.warehouse_server.errors import CANNOT_DECOMPRESS, UNKNOWN_COMPRESSION_METHOD, refusal

_PREFERENCE = ("lz4", "zstd", "gzip", "deflate")
"""The order in which an answer's encoding is chosen among those that the client takes."""
_GZIP_WINDOW = 31
_LEVEL = 3


class Decoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> None: ...


class Encoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class Identity:
    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        return None


class _Stream(Protocol):
    """One compressed stream, as zlib, lz4 and zstandard each decompress it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Streams:
    """Compressed streams, one after the other: gzip members, LZ4 or Zstandard frames."""

    def __init__(self, begin: Callable[[], _Stream]) -> None:
        self._begin = begin
        self._stream: _Stream | None = None

    def feed(self, data: bytes) -> bytes:
        parts = []
        while data:
            stream = self._stream = self._stream or self._begin()
            parts.append(stream.decompress(data))
            data = stream.unused_data or b""
            if stream.eof:
                self._stream = None
        return b"".join(parts)

    def end(self) -> None:
        if self._stream is not None:
            raise EOFError("the compressed body ends in its middle")


_BEGINNINGS: dict[str, Callable[[], _Stream]] = {
    "gzip": lambda: zlib.decompressobj(_GZIP_WINDOW),
    "x-gzip": lambda: zlib.decompressobj(_GZIP_WINDOW),
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


class Checked:
    """A decoder whose complaints are ServerErrors."""

    def __init__(self, encoding: str, decoder: Decoder) -> None:
        self._encoding, self._decoder = encoding, decoder

    def feed(self, data: bytes) -> bytes:
        try:
            return self._decoder.feed(data)
        except (zlib.error, RuntimeError, zstandard.ZstdError) as broken:
            raise self._refusal(broken) from broken

    def end(self) -> None:
        try:
            self._decoder.end()
        except EOFError as broken:
            raise self._refusal(broken) from broken

    def _refusal(self, broken: Exception) -> Exception:
        return refusal(CANNOT_DECOMPRESS, f"The request's body is not {self._encoding}: {broken}.")


def decoder(content_encoding: str) -> Decoder:
    """For a request's Content-Encoding. Raises ServerError for one that is not known."""
    name = content_encoding.strip().lower()
    if name in {"", "identity"}:
        return Identity()
    if name in _BEGINNINGS:
        return Checked(name, _Streams(_BEGINNINGS[name]))
    raise refusal(
        UNKNOWN_COMPRESSION_METHOD,
        f"Unknown compression method: {name!r}: this server reads gzip, deflate, lz4 (frames) and zstd.",
    )


def chosen(accept_encoding: str) -> str | None:
    """The encoding of an answer, out of an Accept-Encoding header; None where none fits."""
    accepted = set()
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        if weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            accepted.add(name.strip())
    return next((name for name in _PREFERENCE if name in accepted), None)


class _ZlibEncoder:
    def __init__(self, window: int) -> None:
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, window)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def end(self) -> bytes:
        return self._stream.flush()


class _Lz4Encoder:
    def __init__(self) -> None:
        self._stream = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        return self._head() + bytes(self._stream.compress(data))

    def end(self) -> bytes:
        return self._head() + bytes(self._stream.flush())

    def _head(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return bytes(self._stream.begin())


class _ZstdEncoder:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(_LEVEL).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def end(self) -> bytes:
        return self._stream.flush()


class _Untouched:
    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


def encoder(name: str | None) -> Encoder:
    if name == "lz4":
        return _Lz4Encoder()
    if name == "zstd":
        return _ZstdEncoder()
    if name == "gzip":
        return _ZlibEncoder(_GZIP_WINDOW)
    return _ZlibEncoder(zlib.MAX_WBITS) if name == "deflate" else _Untouched()
