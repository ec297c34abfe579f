"""What is explored: the protocol in configurations that are small enough to be gone through, and each known way to break it."""

from dataclasses import dataclass, replace

from stream_processors.warehouse.protocol import Step, advance
from tests.protocol import broken
from tests.protocol.broken import exchanging, skipping
from tests.protocol.table import Advance
from tests.protocol.world import Rules, Violation

STATES_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class Variant:
    """`expected` is None where nothing may be found."""

    name: str
    rules: Rules
    advance: Advance = advance
    expected: Violation | None = None


_TWO = Rules(groups=(0, 1), poison=0, requests_max=2)
_THREE_UNDER_WAY = replace(_TWO, requests_max=3)
_POISONED = Rules(groups=(0, 0), poison=0b10, requests_max=2)
_ANEW = replace(_TWO, recreates=True)
_ONE_ANEW = replace(_ANEW, groups=(0,))

OURS = (
    Variant(
        "three records, two inserts, poison that turns readable",
        Rules(requests_max=2),
    ),
    Variant(
        "one sink stopped for ever: the other brings everything in",
        replace(_POISONED, alone=True),
    ),
    Variant(
        "inserts that land in part",
        Rules(groups=(0, 0, 1), requests_max=2, blocks_of_one=True),
    ),
    Variant(
        "rows and dead letters read apart, batches of any size, poison known at once",
        Rules(groups=(0, 1), poison=0b01, misframed=0b10, requests_max=2, flips=False, reads_apart=True, short_batches=True),
    ),
    Variant(
        "the topic is made anew",
        _ANEW,
    ),
    Variant(
        "the topic is made anew while poison is dealt with",
        replace(_ONE_ANEW, poison=0b1, flips=False, restarts=False),
    ),
)

LARGE = (
    Variant(
        "three requests under way",
        Rules(),
    ),
    Variant(
        "three records, two kinds of poison, read apart, batches of any size",
        Rules(groups=(0, 1, 1), poison=0b001, misframed=0b100, requests_max=2, flips=False, reads_apart=True, short_batches=True),
    ),
    Variant(
        "four requests under way",
        Rules(requests_max=4),
    ),
    Variant(
        "four records, two of them poison, batches of three",
        Rules(groups=(0, 1, 0, 1), poison=0b1010, batch_records=3),
    ),
    Variant(
        "three records, batches of any size, read apart, two kinds of poison, one of which turns readable",
        Rules(groups=(0, 0, 1), poison=0b010, misframed=0b100, requests_max=2, reads_apart=True, short_batches=True),
    ),
    Variant(
        "inserts that land in part, three requests under way",
        Rules(blocks_of_one=True, reads_apart=True),
    ),
    Variant(
        "inserts that are checked in their first block only",
        Rules(groups=(0, 0, 1), blocks_of_one=True, checked_once=True),
    ),
    Variant(
        "the topic is made anew, two records, one of them poison",
        Rules(groups=(0, 1), poison=0b10, requests_max=2, flips=False, recreates=True),
    ),
    Variant(
        "the topic is made anew, one record, poison that turns readable",
        replace(_ONE_ANEW, poison=0b1),
    ),
    Variant(
        "one sink stopped for ever, three records, three requests under way",
        Rules(alone=True),
    ),
)

BROKEN_TABLE = (
    Variant(
        "no drain",
        _TWO,
        skipping(Step.DRAIN),
        Violation.ROW_TWICE,
    ),
    Variant(
        "drain before the fence",
        _TWO,
        exchanging(Step.FENCE, Step.DRAIN),
        Violation.ROW_TWICE,
    ),
    Variant(
        "reconciliation before the drain",
        _TWO,
        exchanging(Step.DRAIN, Step.RECONCILE),
        Violation.ROW_TWICE,
    ),
    Variant(
        "no reconciliation",
        _TWO,
        skipping(Step.RECONCILE),
        Violation.ROW_TWICE,
    ),
    Variant(
        "an unclean answer: the insert is sent again",
        _TWO,
        broken.inserting_again,
        Violation.ROW_TWICE,
    ),
    Variant(
        "poison dealt with where it was met, inserts land in part",
        replace(_POISONED, blocks_of_one=True),
        broken.searching_at_once,
        Violation.ROW_TWICE,
    ),
    Variant(
        "commit before the inserts",
        _TWO,
        broken.committing_first,
        Violation.LOST,
    ),
    Variant(
        "dead letters that are found are not announced",
        _POISONED,
        skipping(Step.ANNOUNCE),
        Violation.UNANNOUNCED,
    ),
    Variant(
        "dead letters are not announced at all",
        _POISONED,
        skipping(Step.PUBLISH),
        Violation.UNANNOUNCED,
    ),
    Variant(
        "commit before the topic of dead letters",
        _POISONED,
        broken.committing_before_publishing,
        Violation.UNANNOUNCED,
    ),
    Variant(
        "the topic of dead letters before their table",
        _POISONED,
        broken.publishing_first,
        Violation.FALSE_ALARM,
    ),
    Variant(
        "no look at the topic after the fetch",
        _ANEW,
        skipping(Step.CONFIRM),
        Violation.CONFUSED,
    ),
    Variant(
        "no commit",
        _TWO,
        broken.never_committing,
        Violation.STUCK,
    ),
)

BROKEN_WORLD = (
    Variant(
        "no fence",
        replace(_TWO, guard_missing=True),
        skipping(Step.FENCE),
        Violation.ROW_TWICE,
    ),
    Variant(
        "tables that do not look at the fence",
        replace(_TWO, guard_missing=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "checked before it is seen running",
        replace(_TWO, checked_before_running=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "no answer to the fence write: the same owner again",
        replace(_THREE_UNDER_WAY, owner_kept_after_no_answer=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "one owner for life",
        replace(_THREE_UNDER_WAY, owner_kept_for_life=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "a restart brings an older fence back",
        replace(_TWO, older_fence_returns=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "a proxy sends inserts twice",
        replace(_TWO, inserts_repeated=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "a proxy sends dead letters twice",
        Rules(groups=(0,), poison=0, misframed=0b1, requests_max=2, inserts_repeated=True),
        expected=Violation.LETTER_TWICE,
    ),
    Variant(
        "a proxy sends fence writes twice",
        replace(_THREE_UNDER_WAY, fence_writes_repeated=True),
        expected=Violation.ROW_TWICE,
    ),
    Variant(
        "commits without the topic's id",
        replace(_ANEW, batch_records=1, restarts=False, commit_without_topic=True),
        expected=Violation.LOST,
    ),
    Variant(
        "coordinates without the topic's id",
        replace(_ONE_ANEW, coordinates_without_topic=True),
        expected=Violation.LOST,
    ),
    Variant(
        "a batch is delivered again to a topic that was made anew",
        replace(_ONE_ANEW, poison=0b1, batch_outlives_topic=True),
        expected=Violation.CONFUSED,
    ),
    Variant(
        "a batch is delivered again from below the committed offset",
        Rules(groups=(0, 1), poison=0b10, requests_max=2, batch_ignores_commits=True),
        expected=Violation.ROW_TWICE,
    ),
)
