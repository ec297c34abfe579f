"""The protocol under every fault that its model knows, and each way to break it: `python -m tests.protocol` prints the traces."""

import pytest

from stream_processors.warehouse.protocol import Step
from tests.protocol.explorer import Explorer, Verdict
from tests.protocol.variants import BROKEN_TABLE, BROKEN_WORLD, OURS, STATES_MAX, Variant
from tests.protocol.world import Violation


def explored(variant: Variant) -> Verdict:
    return Explorer(variant.advance, variant.rules).run(STATES_MAX)


@pytest.mark.parametrize("variant", OURS, ids=lambda variant: variant.name)
def test_nothing_is_lost_or_twice_and_everything_can_always_come_in(variant: Variant) -> None:
    verdict = explored(variant)

    assert verdict.violation is None, "\n".join(verdict.trace)
    assert verdict.complete
    assert verdict.steps >= set(Step) - {Step.BURY, Step.PUBLISH}
    assert Step.BURY in verdict.steps or not (variant.rules.poison or variant.rules.misframed)


@pytest.mark.parametrize("variant", [*BROKEN_TABLE, *BROKEN_WORLD], ids=lambda variant: variant.name)
def test_with_one_rule_broken_a_shortest_way_to_the_damage_is_found(variant: Variant) -> None:
    verdict = explored(variant)

    assert verdict.violation is variant.expected, "\n".join(verdict.trace)
    assert verdict.trace or verdict.violation is Violation.STUCK, "only what is stuck from the start has no way to it"
