-- The ranges a batch was cut into, written before the first of its inserts. After a lost checkpoint
-- or a crash the same ranges are cut again, so that their tokens match what was written already.
-- planned_at is the clock that "timestamp in the future" is judged by, so that a replay judges alike.
CREATE TABLE raw.planned_ranges
(
    `topic` LowCardinality(String),
    `partition` UInt16,
    `first_offset` UInt64,
    `last_offset` UInt64,
    `planned_at` DateTime64(3, 'UTC'),
    `job` LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (topic, partition, first_offset)
SETTINGS non_replicated_deduplication_window = 10000;
