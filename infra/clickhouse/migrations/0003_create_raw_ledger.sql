-- What was refused, what was landed, and what was replayed.
CREATE TABLE raw.dead_letters
(
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64,
    `key` String CODEC(ZSTD(3)),
    `value` String CODEC(ZSTD(3)),
    `error_class` LowCardinality(String),
    `error_field` LowCardinality(String),
    `error_message` String CODEC(ZSTD(3)),
    `contract_version` LowCardinality(String),
    `produced_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `landed_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(landed_at)
ORDER BY (topic, error_class, partition, offset)
TTL toDateTime(landed_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000;

-- One row for each offset range written. Second guard of exactly-once: read before writing after
-- a start or an ambiguous error, when the token window may have expired.
CREATE TABLE raw.landed_ranges
(
    `topic` LowCardinality(String),
    `partition` UInt16,
    `first_offset` UInt64,
    `last_offset` UInt64,
    `rows_stored` UInt64,
    `rows_dead_lettered` UInt64,
    `bytes` UInt64,
    `min_occurred_at` Nullable(DateTime64(3, 'UTC')),
    `max_occurred_at` Nullable(DateTime64(3, 'UTC')),
    `batch_id` Int64,
    `insert_seconds` Float64,
    `job` LowCardinality(String),
    `landed_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic, partition, first_offset)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE raw.dead_letter_replays
(
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64,
    `run_id` String,
    `fix_up` String,
    `replayed_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic, partition, offset, replayed_at);
