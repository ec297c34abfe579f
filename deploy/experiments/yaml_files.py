"""Files of experiments as plain values. YAML, and so JSON; what is not plain is refused rather than guessed.

A key that stands twice is an error, for YAML would let the second win. Dates stay texts: the reader of definitions knows times.
"""

from pathlib import Path
from typing import Any

import yaml

from schemas.experiment_files import ExperimentFileError

FILE_BYTES_MAX = 4_000_000
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without dates, and with each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as inherited
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path) -> object:
    """The file's only document. Raises ExperimentFileError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ExperimentFileError(str(path), (error.strerror or str(error),)) from error
    if len(text) > FILE_BYTES_MAX:
        raise ExperimentFileError(str(path), (f"larger than {FILE_BYTES_MAX} bytes",))
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExperimentFileError(str(path), (f"not YAML: {' '.join(str(error).split())}",)) from error
