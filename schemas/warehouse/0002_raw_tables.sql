-- What Kafka holds, record by record, with its coordinates. Only the sink can write here: every row reads its coordinates from
-- the envelope before its datum, and is refused where that is misframed, where its owner is not the partition's owner, or where
-- the table is held. Positions in the envelope: schemas/envelope.py. ReplacingMergeTree is the second line behind the protocol;
-- read with FINAL where a verdict is made. Inside Tuples there is no LowCardinality: it makes the insert of a ten-slot answer
-- 2.6 times as dear.
CREATE TABLE recommendations
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'recommendations') != 0, 'tailrace: held'),
    _topic_id UUID DEFAULT reinterpretAsUUID(substring(_envelope, 25, 16)),
    _partition Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 41, 4)),
    _offset Int64 DEFAULT reinterpretAsInt64(substring(_envelope, 65, 8)),
    _kafka_time DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(reinterpretAsInt64(substring(_envelope, 73, 8)), 'UTC'),
    _schema_id Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 45, 4)),
    _run LowCardinality(String) DEFAULT toStringCutToZero(substring(_envelope, 49, 16)),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    event_id UUID,
    occurred_at DateTime64(6, 'UTC'),
    unit_type LowCardinality(String),
    unit_id String,
    session_id Nullable(String),
    traffic LowCardinality(String),
    producer_id UUID,
    producer_seq Int64,
    request_id String,
    surface LowCardinality(String),
    policy_id LowCardinality(String),
    policy_version LowCardinality(Nullable(String)),
    intended_policy_id LowCardinality(String),
    degraded LowCardinality(Nullable(String)),
    assignments Array(Tuple(experiment_id Nullable(String), revision Nullable(Int32), layer_id Nullable(String), unit_type String, arm Nullable(String), bucket Nullable(Int32), reason String, exposed Bool, triggered Nullable(Bool))),
    slots Array(Tuple(item_id String, position Int32, score Nullable(Float64), propensity Nullable(Float64), source Nullable(String), team Nullable(String))),
    candidate_set_id Nullable(String),
    candidate_count Nullable(Int32),
    slate_log_propensity Nullable(Float64),
    context Map(String, String),
    latency_us Nullable(Int64),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(_kafka_time)
PRIMARY KEY (unit_id, event_id)
ORDER BY (unit_id, event_id, _topic_id, _partition, _offset);

CREATE TABLE interactions
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'interactions') != 0, 'tailrace: held'),
    _topic_id UUID DEFAULT reinterpretAsUUID(substring(_envelope, 25, 16)),
    _partition Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 41, 4)),
    _offset Int64 DEFAULT reinterpretAsInt64(substring(_envelope, 65, 8)),
    _kafka_time DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(reinterpretAsInt64(substring(_envelope, 73, 8)), 'UTC'),
    _schema_id Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 45, 4)),
    _run LowCardinality(String) DEFAULT toStringCutToZero(substring(_envelope, 49, 16)),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    event_id UUID,
    occurred_at DateTime64(6, 'UTC'),
    unit_type LowCardinality(String),
    unit_id String,
    session_id Nullable(String),
    traffic LowCardinality(String),
    producer_id UUID,
    producer_seq Int64,
    request_id Nullable(String),
    surface LowCardinality(String),
    item_id String,
    position Nullable(Int32),
    kind LowCardinality(String),
    value Nullable(Float64),
    client_occurred_at Nullable(DateTime64(6, 'UTC')),
    client_sent_at Nullable(DateTime64(6, 'UTC')),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(_kafka_time)
PRIMARY KEY (unit_id, event_id)
ORDER BY (unit_id, event_id, _topic_id, _partition, _offset);

CREATE TABLE shadow_rankings
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'shadow_rankings') != 0, 'tailrace: held'),
    _topic_id UUID DEFAULT reinterpretAsUUID(substring(_envelope, 25, 16)),
    _partition Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 41, 4)),
    _offset Int64 DEFAULT reinterpretAsInt64(substring(_envelope, 65, 8)),
    _kafka_time DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(reinterpretAsInt64(substring(_envelope, 73, 8)), 'UTC'),
    _schema_id Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 45, 4)),
    _run LowCardinality(String) DEFAULT toStringCutToZero(substring(_envelope, 49, 16)),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    event_id UUID,
    occurred_at DateTime64(6, 'UTC'),
    unit_type LowCardinality(String),
    unit_id String,
    session_id Nullable(String),
    traffic LowCardinality(String),
    producer_id UUID,
    producer_seq Int64,
    request_id String,
    surface LowCardinality(String),
    policy_id LowCardinality(String),
    policy_version LowCardinality(Nullable(String)),
    live_policy_id LowCardinality(String),
    failed LowCardinality(Nullable(String)),
    slots Array(Tuple(item_id String, position Int32, score Nullable(Float64), propensity Nullable(Float64), source Nullable(String), team Nullable(String))),
    slate_log_propensity Nullable(Float64),
    latency_us Nullable(Int64),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(_kafka_time)
PRIMARY KEY (unit_id, event_id)
ORDER BY (unit_id, event_id, _topic_id, _partition, _offset);

CREATE TABLE experiment_revisions
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'experiment_revisions') != 0, 'tailrace: held'),
    _topic_id UUID DEFAULT reinterpretAsUUID(substring(_envelope, 25, 16)),
    _partition Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 41, 4)),
    _offset Int64 DEFAULT reinterpretAsInt64(substring(_envelope, 65, 8)),
    _kafka_time DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(reinterpretAsInt64(substring(_envelope, 73, 8)), 'UTC'),
    _schema_id Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 45, 4)),
    _run LowCardinality(String) DEFAULT toStringCutToZero(substring(_envelope, 49, 16)),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    experiment_id String,
    revision Int32,
    kind LowCardinality(String),
    owner String,
    hypothesis String,
    status LowCardinality(String),
    layer_id Nullable(String),
    layer_salt Nullable(String),
    arm_salt Nullable(String),
    unit_type LowCardinality(String),
    surfaces Array(String),
    eligibility Array(Tuple(key String, values Array(String))),
    bucket_ranges Array(Tuple(first Int32, end Int32)),
    arms Array(Tuple(name String, weight Int32, parameters Map(String, String))),
    changed_by String,
    changed_at DateTime64(6, 'UTC'),
    effective_at DateTime64(6, 'UTC'),
    ended_at Nullable(DateTime64(6, 'UTC')),
    plan_hash Nullable(String),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(_kafka_time)
PRIMARY KEY (experiment_id, revision)
ORDER BY (experiment_id, revision, _topic_id, _partition, _offset);

CREATE TABLE producer_checkpoints
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'producer_checkpoints') != 0, 'tailrace: held'),
    _topic_id UUID DEFAULT reinterpretAsUUID(substring(_envelope, 25, 16)),
    _partition Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 41, 4)),
    _offset Int64 DEFAULT reinterpretAsInt64(substring(_envelope, 65, 8)),
    _kafka_time DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(reinterpretAsInt64(substring(_envelope, 73, 8)), 'UTC'),
    _schema_id Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 45, 4)),
    _run LowCardinality(String) DEFAULT toStringCutToZero(substring(_envelope, 49, 16)),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    producer_id UUID,
    topic LowCardinality(String),
    occurred_at DateTime64(6, 'UTC'),
    next_seq Int64,
    emitted Int64,
    acknowledged Int64,
    queued Int64,
    spooled Int64,
    dropped Map(String, Int64),
    counts Array(Tuple(experiment_id String, arm String, count Int64)),
    closed Bool,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(_kafka_time)
PRIMARY KEY (producer_id, topic)
ORDER BY (producer_id, topic, _topic_id, _partition, _offset);

CREATE TABLE dead_letters
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('ingest_fence', 'owner', toFixedString(substring(_envelope, 25, 20), 20)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'dead_letters') != 0, 'tailrace: held'),
    _topic_id UUID DEFAULT reinterpretAsUUID(substring(_envelope, 25, 16)),
    _partition Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 41, 4)),
    _offset Int64 DEFAULT reinterpretAsInt64(substring(_envelope, 65, 8)),
    _kafka_time DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(reinterpretAsInt64(substring(_envelope, 73, 8)), 'UTC'),
    _schema_id Int32 DEFAULT reinterpretAsInt32(substring(_envelope, 45, 4)),
    _run LowCardinality(String) DEFAULT toStringCutToZero(substring(_envelope, 49, 16)),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    topic LowCardinality(String),
    key Nullable(String),
    value Nullable(String),
    headers Array(Tuple(name String, value String)),
    reason LowCardinality(String),
    error String,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(_kafka_time)
PRIMARY KEY (topic)
ORDER BY (topic, _topic_id, _partition, _offset);

-- Offsets that will never be here and were no dead letters: what Kafka had let go of before it was read. [first_offset, end_offset);
-- the end is NULL where nobody can know it. Written at least once: read with FINAL.
CREATE TABLE ingest_gaps
(
    topic LowCardinality(String),
    _topic_id UUID,
    _partition Int32,
    reason LowCardinality(String),
    first_offset Int64,
    end_offset Nullable(Int64),
    detail String,
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(recorded_at)
ORDER BY (topic, _topic_id, _partition, reason, first_offset);

-- Which topics have gone by a name: a topic that is made anew has another id, and its first one must not be forgotten with it.
CREATE TABLE ingest_topics
(
    topic LowCardinality(String),
    _topic_id UUID,
    seen_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(seen_at)
ORDER BY (topic, _topic_id);
