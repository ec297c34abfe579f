"""What an archive can run into, beyond a part that does not answer (schemas.errors.PartUnreachable)."""


class ArchiveDamaged(Exception):  # noqa: N818 - says what is the case
    """A file of the archive is missing, or its bytes are not those that were written. The answer is no; nothing was changed."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"the archive's {path} {what}; `tailrace archive check --deep` looks at all of it")
        self.path, self.what = path, what
