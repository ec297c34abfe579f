"""Manifests and runs as sentences, for people. Pure."""

from datetime import UTC, datetime

from stream_processors.replay.manifest import Manifest, PartitionRange
from stream_processors.replay.runs import Run, Step


def plan_text(manifest: Manifest) -> str:
    """What a run will do."""
    lines = [
        f"{manifest.run}: {manifest.topic} from {manifest.asked.first} to {manifest.asked.end}, into {manifest.table}",
        *(_range_line(each) for each in manifest.ranges),
        "",
        f"It reads {manifest.offsets:,} offsets, about {_bytes(manifest.estimate.bytes)}, in about {_seconds(manifest)} s,",
        f"into the table {manifest.run_table}, {_how(manifest)}.",
        "Bad records go to replay_dead_letters. The live sink goes on, and until a swap nobody who reads",
        f"{manifest.table} sees anything of it.",
    ]
    if manifest.missing:
        lines.append(f"{manifest.missing:,} offsets are missing for ever, and stay missing.")
    lines += ["", f"Next: tailrace replay run {manifest.run}"]
    return "\n".join(lines)


def run_line(run: Run) -> str:
    """One line of a list."""
    manifest, since_ms = run.manifest, run.steps[-1].at_ms if run.steps else run.planned_ms
    what = f"{manifest.offsets:>12,} offsets of {manifest.topic} → {manifest.table}"
    return f"{manifest.run:16} {run.state:12} {moment(since_ms)}  {what}"


def run_text(run: Run) -> str:
    """A run with all that has happened to it."""
    steps = [f"  {moment(step.at_ms)} {step.step:12} {step.host_pid}  {_detail(step)}".rstrip() for step in run.steps]
    return "\n".join(
        [
            f"{run.manifest.run} is {run.state.replace('_', ' ')}",
            "",
            plan_text(run.manifest),
            "",
            "What has happened:",
            f"  {moment(run.planned_ms)} planned",
            *steps,
        ]
    )


def moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _detail(step: Step) -> str:
    return ", ".join(f"{name} {value}" for name, value in step.detail.items() if not isinstance(value, (list, dict)))


def _range_line(wanted: PartitionRange) -> str:
    pieces = [f"{piece.first}–{piece.end - 1} from {piece.source}" for piece in wanted.pieces]
    gaps = [f"{gap.first}–{gap.end - 1} missing ({gap.reason})" for gap in wanted.missing]
    return f"  partition {wanted.partition}: {', '.join([*gaps, *pieces])}"


def _how(manifest: Manifest) -> str:
    if manifest.transform is not None:
        return f"decoded, through {manifest.transform.function}, and encoded again"
    if manifest.select is not None:
        return f"with {manifest.select} computed by the warehouse"
    return "with nothing decoded on the way"


def _seconds(manifest: Manifest) -> str:
    return f"{max(1.0, manifest.estimate.seconds):,.0f}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
