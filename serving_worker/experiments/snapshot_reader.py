"""Reading the host's snapshot of the experiments: what every worker does, as often as it looks at the file."""

from schemas.errors import ContractError
from schemas.events import Micros
from serving_worker.experiments.definitions import Reading, Validity
from serving_worker.experiments.snapshot_file import Contents, Head, decode_body, split

MICROS = 1_000_000


class SnapshotReader:
    """The reading of each of the file's texts. It never goes back: a copy that is older than the last one is refused."""

    def __init__(self, age_s_max: int) -> None:
        self._age_us_max = age_s_max * MICROS
        self._known: tuple[Head, Contents] | None = None

    def __call__(self, text: bytes) -> Reading:
        """Raises ContractError."""
        head, body = split(text)
        self._known = head, self._contents(head, body)
        return self._reading(*self._known)

    def _contents(self, head: Head, body: bytes) -> Contents:
        if self._known is None:
            return decode_body(body)
        known, contents = self._known
        if head.sequence < known.sequence:
            raise ContractError("it is older than the one that is served")
        return contents if head.sha256 == known.sha256 else decode_body(body)

    def _reading(self, head: Head, contents: Contents) -> Reading:
        wrong = [f"refused {each.key or each.where}: {each.problem}" for each in contents.refused]
        if contents.left_out:
            wrong.append(f"refused {contents.left_out} more before them")
        return Reading(contents.revisions, Validity(Micros(head.as_of), self._age_us_max), "; ".join(wrong) or None)
