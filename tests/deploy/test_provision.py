import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from deploy.kafka_topics import examine_topics
from deploy.outcome import Problem
from deploy.provision import EXAMINATIONS, provision
from deploy.registry_subjects import examine_subjects
from deploy.settings import KAFKA_BOOTSTRAP, TOPIC_PREFIX, Installation
from deploy.warehouse_tables import examine_tables, refuse_rewritten
from schemas.errors import ContractError, PartUnreachable
from schemas.tables import load_migrations

TIMEOUT_S = 20


def timestamp_type(admin: AdminClient, topic: str) -> str:
    [future] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return str(future.result(TIMEOUT_S)["message.timestamp.type"].value)


@pytest.mark.integration
def test_a_provisioned_installation_has_nothing_to_mend_and_nothing_left_to_make(installation: Mapping[str, str]) -> None:
    named = Installation.from_environment(installation)

    assert [problem for examine in EXAMINATIONS.values() for problem in examine(named)] == []
    assert [outcome.made for outcome in provision(named)] == [(), (), ()]


@pytest.mark.integration
def test_a_topic_that_keeps_the_producers_clock_is_set_to_the_brokers(installation: Mapping[str, str]) -> None:
    named = Installation.from_environment({**installation, TOPIC_PREFIX: installation[TOPIC_PREFIX] + "clock."})
    admin = AdminClient({"bootstrap.servers": installation[KAFKA_BOOTSTRAP]})
    topic = named.topic_prefix + "recommendations"
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(TIMEOUT_S)

    topics = provision(named)[0]

    assert timestamp_type(admin, topic) == "LogAppendTime"
    assert f"{topic}: message.timestamp.type CreateTime → LogAppendTime" in topics.made
    assert topics.differs == (f"{topic} has 2 partitions, 4 are usual: kept",)
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    assert len(described.partitions) == 2


@pytest.mark.integration
def test_provisioning_at_the_same_time_from_two_sides_is_harmless(installation: Mapping[str, str]) -> None:
    named = Installation.from_environment({**installation, TOPIC_PREFIX: installation[TOPIC_PREFIX] + "both."})

    with ThreadPoolExecutor(2) as pool:
        sides = list(pool.map(provision, [named, named]))

    assert len(sides) == 2
    assert [problem for examine in EXAMINATIONS.values() for problem in examine(named)] == []


@pytest.mark.integration
def test_what_was_never_provisioned_is_said_part_by_part_with_what_to_do(stack: Mapping[str, str]) -> None:
    named = Installation.from_environment(
        {**stack, TOPIC_PREFIX: "nobody.", "TAILRACE_WAREHOUSE_URL": stack["TAILRACE_WAREHOUSE_URL"] + "_nobody"}
    )

    found = {part: examine(named) for part, examine in EXAMINATIONS.items()}

    assert "the topic nobody.recommendations is missing" in [problem.what for problem in found["kafka"]]
    assert "nobody.recommendations-value lacks version 1 of RecommendationServed" in [each.what for each in found["registry"]]
    assert found["warehouse"]
    assert all("run `tailrace" in problem.remedy for problems in found.values() for problem in problems)


def test_a_migration_that_was_rewritten_after_it_was_applied_is_refused_by_name() -> None:
    migrations = load_migrations()

    with pytest.raises(ContractError, match=rf"{migrations[0].number:04d}_{migrations[0].name}\.sql has changed"):
        refuse_rewritten(migrations, {migrations[0].number: "0" * 64})


def test_a_warehouse_that_knows_later_migrations_is_refused() -> None:
    with pytest.raises(ContractError, match="migration 9999, which this version lacks"):
        refuse_rewritten(load_migrations(), {9999: "0" * 64})


EXAMINED: dict[str, Callable[[Installation], list[Problem]]] = {
    "Kafka": partial(examine_topics, timeout_s=1),
    "the schema registry": examine_subjects,
    "the warehouse": examine_tables,
}


@pytest.mark.parametrize("what", EXAMINED)
def test_a_part_that_is_away_is_named_without_its_password(what: str) -> None:
    away = Installation.from_environment(
        {
            "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "TAILRACE_REGISTRY_URL": "http://me:secret@127.0.0.1:1/apis/ccompat/v7",
            "TAILRACE_WAREHOUSE_URL": "http://me:secret@127.0.0.1:1/tailrace",
        }
    )

    with pytest.raises(PartUnreachable) as refused:
        EXAMINED[what](away)

    assert refused.value.what == what
    assert "127.0.0.1:1" in refused.value.where
    assert "secret" not in str(refused.value)


@pytest.mark.integration
def test_registering_needs_the_registry_alone(installation: Mapping[str, str]) -> None:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    named = {"TAILRACE_REGISTRY_URL": installation["TAILRACE_REGISTRY_URL"], TOPIC_PREFIX: installation[TOPIC_PREFIX] + "alone."}
    command = [sys.executable, "-m", "deploy.cli", "schemas", "register", "--json"]

    first, second = (
        subprocess.run(command, env={**alone, **named}, capture_output=True, text=True, timeout=60, check=True) for _ in range(2)
    )

    assert f"{named[TOPIC_PREFIX]}interactions-value v1" in json.loads(first.stdout)["registered"]
    assert json.loads(second.stdout)["registered"] == []
