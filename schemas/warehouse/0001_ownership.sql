-- Who may write. In memory on purpose: a restart of the warehouse shuts out every owner until it has recovered.
CREATE TABLE ingest_fence
(
    key FixedString(20),
    owner FixedString(16)
)
ENGINE = Join(ANY, LEFT, key) SETTINGS join_any_take_last_row = 1, persistent = 0;

-- Which tables take nothing for now (a swap, a migration). Durable: a restart must not let go of it.
CREATE TABLE ingest_hold
(
    table_name String,
    held UInt8
)
ENGINE = Join(ANY, LEFT, table_name) SETTINGS join_any_take_last_row = 1, persistent = 1;
