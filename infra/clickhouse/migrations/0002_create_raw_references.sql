-- Every version that a reference topic carried; the latest by key is the current one.
CREATE TABLE raw.campaigns
(
    `tenant_id` LowCardinality(String),
    `updated_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `is_deleted` Bool CODEC(ZSTD(1)),
    `campaign_id` String CODEC(ZSTD(1)),
    `name` String CODEC(ZSTD(1)),
    `channel` LowCardinality(String),
    `category` LowCardinality(String),
    `status` LowCardinality(String),
    `objective` LowCardinality(String),
    `owner` LowCardinality(String),
    `template_id` LowCardinality(String),
    `journey_id` LowCardinality(String),
    `primary_conversion` LowCardinality(String),
    `conversion_window_hours` UInt16 CODEC(T64, ZSTD(1)),
    `holdout_share` Float64 CODEC(ZSTD(1)),
    `variants` String CODEC(ZSTD(3)),
    `starts_at` Nullable(DateTime64(3, 'UTC')) CODEC(DoubleDelta, ZSTD(1)),
    `ends_at` Nullable(DateTime64(3, 'UTC')) CODEC(DoubleDelta, ZSTD(1)),
    `fixed_cost` Decimal(18, 4) CODEC(ZSTD(1)),
    `currency` LowCardinality(String),
    `_topic` LowCardinality(String),
    `_partition` UInt16 CODEC(T64, ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `landed_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant_id, campaign_id, updated_at, _offset)
SETTINGS non_replicated_deduplication_window = 10000;


CREATE TABLE raw.templates
(
    `tenant_id` LowCardinality(String),
    `updated_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `is_deleted` Bool CODEC(ZSTD(1)),
    `template_id` String CODEC(ZSTD(1)),
    `name` String CODEC(ZSTD(1)),
    `channel` LowCardinality(String),
    `category` LowCardinality(String),
    `locale` LowCardinality(String),
    `subject` String CODEC(ZSTD(1)),
    `body` String CODEC(ZSTD(1)),
    `call_to_action` String CODEC(ZSTD(1)),
    `version` UInt32 CODEC(T64, ZSTD(1)),
    `_topic` LowCardinality(String),
    `_partition` UInt16 CODEC(T64, ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `landed_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant_id, template_id, updated_at, _offset)
SETTINGS non_replicated_deduplication_window = 10000;


CREATE TABLE raw.journeys
(
    `tenant_id` LowCardinality(String),
    `updated_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `is_deleted` Bool CODEC(ZSTD(1)),
    `journey_id` String CODEC(ZSTD(1)),
    `name` String CODEC(ZSTD(1)),
    `status` LowCardinality(String),
    `steps` String CODEC(ZSTD(3)),
    `_topic` LowCardinality(String),
    `_partition` UInt16 CODEC(T64, ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `landed_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant_id, journey_id, updated_at, _offset)
SETTINGS non_replicated_deduplication_window = 10000;


CREATE TABLE raw.users
(
    `tenant_id` LowCardinality(String),
    `updated_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    `is_deleted` Bool CODEC(ZSTD(1)),
    `user_id` String CODEC(ZSTD(1)),
    `created_at` Nullable(DateTime64(3, 'UTC')) CODEC(DoubleDelta, ZSTD(1)),
    `timezone` LowCardinality(String),
    `country` LowCardinality(String),
    `locale` LowCardinality(String),
    `platform` LowCardinality(String),
    `device_class` LowCardinality(String),
    `mailbox_provider` LowCardinality(String),
    `acquisition_channel` LowCardinality(String),
    `is_email_subscribed` Bool CODEC(ZSTD(1)),
    `is_push_subscribed` Bool CODEC(ZSTD(1)),
    `is_sms_subscribed` Bool CODEC(ZSTD(1)),
    `_topic` LowCardinality(String),
    `_partition` UInt16 CODEC(T64, ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `landed_at` DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant_id, user_id, updated_at, _offset)
SETTINGS non_replicated_deduplication_window = 10000;
