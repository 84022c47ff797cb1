CREATE DATABASE IF NOT EXISTS governance;

-- One row for each expectation of each run of a suite.
CREATE TABLE governance.quality_results
(
    `run_id` String,
    `suite` LowCardinality(String),
    `layer` LowCardinality(String),
    `table` LowCardinality(String),
    `expectation` LowCardinality(String),
    `column` LowCardinality(String),
    `severity` LowCardinality(String),
    `success` Bool,
    `observed` String,
    `expected` String,
    `message` String,
    `checked_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (suite, checked_at)
TTL toDateTime(checked_at) + INTERVAL 400 DAY;

-- Every query of the AnalyticsEngine: who asked what, through which surface.
CREATE TABLE governance.query_audit
(
    `asked_at` DateTime64(3, 'UTC'),
    `tenant_id` LowCardinality(String),
    `principal` LowCardinality(String),
    `surface` LowCardinality(String),
    `query` String CODEC(ZSTD(3)),
    `query_hash` String,
    `rows` UInt64,
    `seconds` Float64,
    `outcome` LowCardinality(String),
    `cache` LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (tenant_id, asked_at)
TTL toDateTime(asked_at) + INTERVAL 400 DAY;
