-- Alerts: the latest version of a row is its state. alert_id is a hash of tenant, rule, group and
-- opening window, so that judging the same minutes again writes the same alert.
CREATE TABLE live.alerts
(
    `alert_id` String,
    `tenant_id` LowCardinality(String),
    `rule` LowCardinality(String),
    `kind` LowCardinality(String),
    `severity` LowCardinality(String),
    `status` LowCardinality(String),
    `group_key` Map(LowCardinality(String), String),
    `value` Float64,
    `threshold` Float64,
    `baseline` Nullable(Float64),
    `events` UInt64,
    `window_start` DateTime64(3, 'UTC'),
    `window_end` DateTime64(3, 'UTC'),
    `opened_at` DateTime64(3, 'UTC'),
    `updated_at` DateTime64(3, 'UTC'),
    `resolved_at` Nullable(DateTime64(3, 'UTC')),
    `summary` String CODEC(ZSTD(3)),
    `runbook` LowCardinality(String),
    `owner` LowCardinality(String),
    `acknowledged_by` String,
    `silenced_until` Nullable(DateTime64(3, 'UTC')),
    `version` UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY alert_id
TTL toDateTime(updated_at) + INTERVAL 400 DAY;

-- Who acknowledged or silenced what. The job reads it at every step, so that a version that it
-- writes at the same moment cannot undo what a person did.
CREATE TABLE live.alert_actions
(
    `alert_id` String,
    `tenant_id` LowCardinality(String),
    `rule` LowCardinality(String),
    `group_key` Map(LowCardinality(String), String),
    `action` LowCardinality(String),
    `principal` String,
    `comment` String,
    `until` Nullable(DateTime64(3, 'UTC')),
    `acted_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (alert_id, acted_at)
TTL toDateTime(acted_at) + INTERVAL 400 DAY;

-- What has to be told: a row for each alert opened, resolved, acknowledged or silenced. Written
-- before the alert itself, so that nothing that is seen stays untold; told once for each destination.
CREATE TABLE live.alert_transitions
(
    `alert_id` String,
    `transition` LowCardinality(String),
    `tenant_id` LowCardinality(String),
    `rule` LowCardinality(String),
    `payload` String CODEC(ZSTD(3)),
    `happened_at` DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(happened_at)
ORDER BY (alert_id, transition)
TTL toDateTime(happened_at) + INTERVAL 400 DAY;

-- Every attempt to tell a destination, and how it ended.
CREATE TABLE live.alert_deliveries
(
    `alert_id` String,
    `transition` LowCardinality(String),
    `destination` LowCardinality(String),
    `outcome` LowCardinality(String),
    `attempt` UInt32,
    `idempotency_key` String,
    `detail` String CODEC(ZSTD(3)),
    `attempted_at` DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (alert_id, transition, destination, attempted_at)
TTL toDateTime(attempted_at) + INTERVAL 90 DAY;

-- What the keyed state of the pattern stream found: users with many sends in a window. A replay of
-- a batch writes the same key again; `opens` above 0 takes a user off the list.
CREATE TABLE live.messaged_users
(
    `rule` LowCardinality(String),
    `tenant_id` LowCardinality(String),
    `user_id` String CODEC(ZSTD(1)),
    `window_start` DateTime64(3, 'UTC'),
    `window_end` DateTime64(3, 'UTC'),
    `sends` UInt64,
    `opens` UInt64,
    `seen_at` DateTime64(3, 'UTC'),
    `version` UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (rule, tenant_id, window_start, user_id)
TTL toDateTime(window_end) + INTERVAL 14 DAY;
