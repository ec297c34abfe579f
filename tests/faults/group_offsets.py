"""What may become of a group's committed offsets while nobody looks. Only an empty group lets itself be tampered with."""

from collections.abc import Callable, Iterator

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults.arena import Arena
from tests.waiting import eventually

ANSWER_TIMEOUT_S = 20
EMPTY_LIMIT_S = 30
WAYS = ("deleted", "reset to the start", "moved back", "without metadata")


def tamper(arena: Arena) -> str:
    """One of WAYS, at random, and which it was. The group's members must be dead."""
    admin = arena.admin
    assert eventually(lambda: _is_empty(admin, arena.group), EMPTY_LIMIT_S), "the group's sessions have expired"
    way = arena.random.choice(WAYS)
    if way == "deleted":
        admin.delete_consumer_groups([arena.group], request_timeout=ANSWER_TIMEOUT_S)[arena.group].result()
    else:
        _alter(admin, arena.group, list(_altered(arena, committed(admin, arena.group), way)))
    return way


def committed(admin: AdminClient, group: str) -> list[TopicPartition]:
    """With metadata."""
    asked = [ConsumerGroupTopicPartitions(group)]
    found = admin.list_consumer_group_offsets(asked, request_timeout=ANSWER_TIMEOUT_S)[group].result()
    return [position for position in found.topic_partitions or [] if position.offset >= 0]


def _altered(arena: Arena, positions: list[TopicPartition], way: str) -> Iterator[TopicPartition]:
    change: Callable[[TopicPartition], tuple[int, str | None]] = {
        "reset to the start": lambda _: (0, None),
        "moved back": lambda position: (arena.random.randint(0, position.offset), position.metadata),
        "without metadata": lambda position: (position.offset, None),
    }[way]
    for position in positions:
        offset, metadata = change(position)
        yield TopicPartition(position.topic, position.partition, offset, metadata=metadata or "")


def _alter(admin: AdminClient, group: str, positions: list[TopicPartition]) -> None:
    if not positions:
        return
    asked = [ConsumerGroupTopicPartitions(group, positions)]
    answer = admin.alter_consumer_group_offsets(asked, request_timeout=ANSWER_TIMEOUT_S)[group].result()
    for position in answer.topic_partitions or []:
        if position.error is not None:
            raise KafkaException(position.error)


def _is_empty(admin: AdminClient, group: str) -> bool:
    described = admin.describe_consumer_groups([group], request_timeout=ANSWER_TIMEOUT_S)[group].result()
    return described.state in {ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}
