"""The edge to where archives are: a directory, S3 and what speaks it, Google's or Azure's store, by URL. Imports the client.

Whole objects in and out. What is put is there whole or not at all, and never in the place of another object. In a directory it is
also on the disk when `put_new` returns. Raises PartUnreachable where the store does not answer or does not let us in.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from schemas.environment import public_address
from schemas.errors import ConfigurationError, PartUnreachable

_STORES = ("aws_", "azure_", "google_")
_REMEDY = "is it there, and do the credentials let us in?"


class Stored(NamedTuple):
    path: str
    bytes: int


class ObjectStore:
    """Threads may share it. `options` are the store's own settings (aws_endpoint, aws_region, …) and the HTTP client's
    (allow_http, timeout, …); what is not among them comes from the usual variables (AWS_ACCESS_KEY_ID, …).
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.address = public_address(url)
        """As it may be shown."""
        parts = urlsplit(url)
        self._directory = Path(unquote(parts.path)) if parts.scheme == "file" else None
        try:
            if self._directory is not None:
                self._store: obstore.store.ObjectStore = LocalStore(self._directory, mkdir=True)
            else:
                self._store = _opened(url, options)
        except (BaseError, ValueError, OSError) as error:
            raise ConfigurationError((f"TAILRACE_ARCHIVE_URL: {self.address} is no archive: {_first_line(error)}",)) from error

    def put_new(self, path: str, content: bytes) -> bool:
        """Store an object under a path that nothing has; False where something has it, which stays as it is."""
        with self._answering():
            try:
                obstore.put(self._store, path, content, mode="create")
            except AlreadyExistsError:
                return False
            if self._directory is not None:
                _to_disk(self._directory / path)
        return True

    def get(self, path: str) -> bytes | None:
        """None where there is no such object."""
        with self._answering():
            try:
                return obstore.get(self._store, path).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def below(self, folder: str) -> list[Stored]:
        """Every object below a folder, in the order of their paths."""
        with self._answering():
            found = [Stored(each["path"], each["size"]) for page in obstore.list(self._store, folder or None) for each in page]
        return sorted(found)

    def folders(self, folder: str) -> list[str]:
        """The folders right below one, by their whole paths."""
        with self._answering():
            return sorted(obstore.list_with_delimiter(self._store, folder or None)["common_prefixes"])

    def delete(self, path: str) -> None:
        with self._answering():
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:
                return

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            raise PartUnreachable("the archive", self.address, f"{_REMEDY} ({_first_line(error)})") from error


def _opened(url: str, options: Mapping[str, str]) -> "obstore.store.ObjectStore":
    """The client's library aborts on a store's setting that has no prefix of a store."""
    of_store = {name: value for name, value in options.items() if name.startswith(_STORES)}
    of_client = {name: value for name, value in options.items() if name not in of_store}
    given = {"config": of_store, "client_options": of_client}
    return from_url(url, **cast("Any", {name: settings for name, settings in given.items() if settings}))


def _to_disk(path: Path) -> None:
    """A file and its name, past the system's own memory."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
