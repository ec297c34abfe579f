"""One sound experiment, as a file of experiments says it and as it is read."""

import json
from typing import Any

from schemas.events import Micros
from schemas.experiment_files import parse_experiments

NOW = Micros(1_700_000_000_000_000)

DOCUMENT: dict[str, Any] = {
    "experiment_id": "ab-1",
    "revision": 1,
    "kind": "ab",
    "owner": "ranking",
    "hypothesis": "it helps",
    "status": "running",
    "unit_type": "user",
    "surfaces": ["home"],
    "arms": [{"name": "control", "weight": 1}, {"name": "treatment", "weight": 1, "parameters": {"policy": "plackett_luce"}}],
    "changed_by": "somebody",
    "changed_at": NOW,
    "effective_at": NOW,
    "bucket_ranges": [{"first": 0, "end": 1_000_000}],
    "layer_id": "ranking",
    "layer_salt": "layer-1",
    "arm_salt": "arm-1",
}
(DEFINITION,) = parse_experiments(json.dumps(DOCUMENT), "sample")
