-- What a replay is about to send, written before it is sent: after a crash the topic is searched
-- from end_offset on for the records of run_id, and what is there is not sent again. A second row
-- with is_closed says that the first was looked up and nothing was found.
CREATE TABLE raw.dead_letter_claims
(
    `run_id` String,
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64,
    `end_offset` UInt64,
    `fix_up` String CODEC(ZSTD(3)),
    `principal` LowCardinality(String),
    `is_closed` Bool,
    `claimed_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic, partition, offset)
TTL toDateTime(claimed_at) + INTERVAL 90 DAY;

ALTER TABLE raw.dead_letter_replays
    ADD COLUMN `new_partition` UInt16 DEFAULT 0,
    ADD COLUMN `new_offset` UInt64 DEFAULT 0,
    ADD COLUMN `principal` LowCardinality(String) DEFAULT '';

-- How often the warehouse pushed back before it took the range, and with which error last (252: too
-- many parts, 241: memory, 0: never): the next batches are cut smaller.
ALTER TABLE raw.landed_ranges
    ADD COLUMN `pushbacks` UInt16 DEFAULT 0,
    ADD COLUMN `pushback_code` UInt16 DEFAULT 0;
