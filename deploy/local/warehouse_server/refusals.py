"""What this server refuses by name."""


def refuse(head: bytes) -> None:
    """Nothing yet."""
