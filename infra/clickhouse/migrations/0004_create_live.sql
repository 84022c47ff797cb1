CREATE DATABASE IF NOT EXISTS live;

-- Where the landing job stands, a row per partition and batch. Lag = end_offset - next_offset.
CREATE TABLE live.landing_progress
(
    `observed_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `topic` LowCardinality(String),
    `partition` UInt16,
    `next_offset` UInt64,
    `end_offset` UInt64,
    `batch_id` Int64,
    `batch_rows` UInt64,
    `batch_seconds` Float64
)
ENGINE = MergeTree
ORDER BY (topic, partition, observed_at)
TTL toDateTime(observed_at) + INTERVAL 14 DAY;
