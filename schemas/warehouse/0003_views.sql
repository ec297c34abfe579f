-- What analysis reads. An event that its producer sent twice (same event_id, other coordinates) stays twice in the raw table and
-- counts once here: the first copy that Kafka took.
CREATE VIEW recommendations_once AS
SELECT *
FROM recommendations FINAL
ORDER BY unit_id, event_id, _kafka_time, _topic_id, _partition, _offset
LIMIT 1 BY unit_id, event_id;

CREATE VIEW interactions_once AS
SELECT *
FROM interactions FINAL
ORDER BY unit_id, event_id, _kafka_time, _topic_id, _partition, _offset
LIMIT 1 BY unit_id, event_id;

-- Every revision of every experiment, as it was last written.
CREATE VIEW experiments AS
SELECT *
FROM experiment_revisions FINAL
ORDER BY experiment_id, revision, _kafka_time DESC, _topic_id, _partition, _offset DESC
LIMIT 1 BY experiment_id, revision;

-- Assigned is not exposed: one row for each unit that an arm of an experiment has answered. The unit keeps its first arm.
CREATE VIEW exposures AS
SELECT
    assumeNotNull(assignment.experiment_id) AS experiment_id,
    traffic,
    assignment.unit_type AS unit_type,
    unit_id,
    argMin(assumeNotNull(assignment.arm), (occurred_at, event_id)) AS arm,
    argMin(assumeNotNull(assignment.revision), (occurred_at, event_id)) AS revision,
    min(occurred_at) AS first_at,
    uniqExact(assignment.arm) > 1 AS crossover,
    count() AS exposed_requests,
    countIf(degraded IS NOT NULL) AS degraded_requests
FROM recommendations_once
ARRAY JOIN assignments AS assignment
WHERE assignment.exposed AND assignment.experiment_id IS NOT NULL AND assignment.arm IS NOT NULL
GROUP BY experiment_id, traffic, unit_type, unit_id;
