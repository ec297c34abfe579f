-- Who may write for which run of a replay: a run's fence is its own, so it shuts out neither the live sink nor another run. The key is
-- topic id and partition as in ingest_fence, then the run, as they stand in the envelope. In memory, for ingest_fence's reasons.
CREATE TABLE replay_fence
(
    key FixedString(36),
    owner FixedString(16)
)
ENGINE = Join(ANY, LEFT, key) SETTINGS join_any_take_last_row = 1, persistent = 0;

-- What each run is to do, fixed when it was planned. A run's rows go to a table of its own, replay_<run>.
CREATE TABLE replay_manifests
(
    run String,
    target LowCardinality(String),
    manifest String,
    planned_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY run;

-- What has happened to each run, append only: how a run stands follows from this log alone. `detail` is JSON.
CREATE TABLE replay_steps
(
    run String,
    seq UInt32,
    step LowCardinality(String),
    detail String,
    at DateTime64(3, 'UTC') DEFAULT now64(3),
    host_pid String
)
ENGINE = MergeTree
ORDER BY (run, seq);

-- What a run could not take, once for a run and coordinates. Never in dead_letters: those are the live stream's, and are audited.
CREATE TABLE replay_dead_letters
(
    _envelope FixedString(80) EPHEMERAL,
    _framed UInt8 DEFAULT throwIf(substring(_envelope, 1, 8) != 'TAILRACE', 'tailrace: misframed'),
    _owned UInt8 DEFAULT throwIf(joinGet('replay_fence', 'owner', toFixedString(concat(substring(_envelope, 25, 20), substring(_envelope, 49, 16)), 36)) != substring(_envelope, 9, 16), 'tailrace: not the owner'),
    _free UInt8 DEFAULT throwIf(joinGet('ingest_hold', 'held', 'replay_dead_letters') != 0, 'tailrace: held'),
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
PRIMARY KEY (_run, topic)
ORDER BY (_run, topic, _topic_id, _partition, _offset);
