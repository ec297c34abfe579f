-- What analysis reads. An event that its producer sent twice (same unit and event_id, other coordinates: another offset, partition,
-- day or topic id) stays twice in the raw table and counts once here: the first copy that Kafka took.
--
-- Memory: ORDER BY starts as the sorting key does, so the engine merges the parts as they lie on disk and LIMIT BY remembers one
-- key. What a view takes grows with the number of parts and columns that are read, not with rows. It needs no FINAL: rows of the same
-- coordinates have the same event_id. The settings keep what each part has in memory small; they hold for the view's own reading.
-- A condition on unit_id or event_id reaches the primary key. One on anything else comes after the merge, as it must where copies
-- differ: to read less, name the units as well (unit_id IN (SELECT unit_id FROM recommendations WHERE ...)).
--
-- Clocks: occurred_at is the emitter's. _clock_skew_s is how far it is ahead of the moment at which Kafka took the record, negative
-- where it is behind, and _clock says what that means:
--   right  at most 300 s ahead, at most one hour behind.
--   late   longer behind, and can be so: at most 7 days (a spool), or its id (a UUIDv7 holds the emitter's clock) was made at most
--          7 days before: an old log that is sent now by a clock that is right.
--   wrong  neither; also whatever claims to be from before the year 2000. Events years off are here.
-- _happened_at is occurred_at, and Kafka's time where the clock is wrong. Compare and count by it.
CREATE VIEW recommendations_once AS
WITH
    intDiv(toUnixTimestamp64Milli(_kafka_time), 1000) AS taken_s,
    intDiv(toUnixTimestamp64Milli(UUIDv7ToDateTime(event_id)), 1000) - taken_s AS id_skew_s
SELECT
    *,
    intDiv(toUnixTimestamp64Micro(occurred_at), 1000000) - taken_s AS _clock_skew_s,
    multiIf(
        _clock_skew_s BETWEEN -3600 AND 300, 'right',
        _clock_skew_s BETWEEN -604800 AND 300, 'late',
        _clock_skew_s < 0 AND occurred_at >= toDateTime64('2000-01-01', 6, 'UTC') AND id_skew_s BETWEEN -604800 AND 300, 'late',
        'wrong'
    ) AS _clock,
    if(_clock = 'wrong', toDateTime64(_kafka_time, 6, 'UTC'), occurred_at) AS _happened_at
FROM recommendations
ORDER BY unit_id, event_id, _kafka_time, _topic_id, _partition, _offset
LIMIT 1 BY unit_id, event_id
SETTINGS max_block_size = 2048, read_in_order_use_buffering = 0;

CREATE VIEW interactions_once AS
WITH
    intDiv(toUnixTimestamp64Milli(_kafka_time), 1000) AS taken_s,
    intDiv(toUnixTimestamp64Milli(UUIDv7ToDateTime(event_id)), 1000) - taken_s AS id_skew_s
SELECT
    *,
    intDiv(toUnixTimestamp64Micro(occurred_at), 1000000) - taken_s AS _clock_skew_s,
    multiIf(
        _clock_skew_s BETWEEN -3600 AND 300, 'right',
        _clock_skew_s BETWEEN -604800 AND 300, 'late',
        _clock_skew_s < 0 AND occurred_at >= toDateTime64('2000-01-01', 6, 'UTC') AND id_skew_s BETWEEN -604800 AND 300, 'late',
        'wrong'
    ) AS _clock,
    if(_clock = 'wrong', toDateTime64(_kafka_time, 6, 'UTC'), occurred_at) AS _happened_at
FROM interactions
ORDER BY unit_id, event_id, _kafka_time, _topic_id, _partition, _offset
LIMIT 1 BY unit_id, event_id
SETTINGS max_block_size = 2048, read_in_order_use_buffering = 0;

-- Every revision of every experiment, as it was last written.
CREATE VIEW experiments AS
SELECT *
FROM experiment_revisions
ORDER BY experiment_id, revision, _kafka_time DESC, _topic_id, _partition, _offset DESC
LIMIT 1 BY experiment_id, revision;

-- Assigned is not exposed: one row for each unit that an arm of an experiment has answered. The unit keeps its first arm.
CREATE VIEW exposures AS
SELECT
    assumeNotNull(assignment.experiment_id) AS experiment_id,
    traffic,
    assignment.unit_type AS unit_type,
    unit_id,
    argMin(assumeNotNull(assignment.arm), (_happened_at, event_id)) AS arm,
    argMin(assumeNotNull(assignment.revision), (_happened_at, event_id)) AS revision,
    min(_happened_at) AS first_at,
    min(assignment.arm) != max(assignment.arm) AS crossover,
    count() AS exposed_requests,
    countIf(degraded IS NOT NULL) AS degraded_requests
FROM recommendations_once
ARRAY JOIN assignments AS assignment
WHERE assignment.exposed AND assignment.experiment_id IS NOT NULL AND assignment.arm IS NOT NULL
GROUP BY experiment_id, traffic, unit_type, unit_id;
