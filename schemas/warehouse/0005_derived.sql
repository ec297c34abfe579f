-- Tables that are computed from raw ones, each by the text of its definition: the last one applied holds, an empty one is none.
CREATE TABLE derived_tables
(
    name String,
    definition String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY name;

-- From what each day of a derived table was built: which table, by which definition, and the sum of the parts that the day had then.
CREATE TABLE derived_days
(
    name String,
    day String,
    built_from String,
    definition_sha256 String,
    fingerprint String,
    rows UInt64,
    built_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(built_at)
ORDER BY (name, day);
