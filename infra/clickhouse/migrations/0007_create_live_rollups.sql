-- Rollups of raw.events by event time: a second, a minute, an hour. docs/reference/live.md
--
-- One view groups an inserted block once, into a table that stores nothing; three small views
-- write what it gives. How fine it groups depends on how late an event landed: the second table
-- takes what landed within 2 hours, the minute table within 2 days, the hour table everything. So
-- a drained backlog costs one grain, not three. docs/decisions/0100
--
-- Every target has a window, or a retried insert would double it: the token that the source knows
-- is checked by each of them, also through the table that stores nothing.
CREATE TABLE live.rollup_stage
(
    `bucket_at` DateTime('UTC'),
    `grain` UInt8,
    `tenant_id` LowCardinality(String),
    `campaign_id` LowCardinality(String),
    `variant_id` LowCardinality(String),
    `channel` LowCardinality(String),
    `country` LowCardinality(String),
    `platform` LowCardinality(String),
    `provider` LowCardinality(String),
    `audience` LowCardinality(String),
    `targeted` UInt64,
    `attempted` UInt64,
    `sent` UInt64,
    `delivered` UInt64,
    `deferred` UInt64,
    `bounced` UInt64,
    `soft_bounced` UInt64,
    `failed` UInt64,
    `aborted` UInt64,
    `opened` UInt64,
    `clicked` UInt64,
    `impressed` UInt64,
    `converted` UInt64,
    `unsubscribed` UInt64,
    `complained` UInt64,
    `events` UInt64,
    `revenue` Decimal(38, 4),
    `cost` Decimal(38, 4),
    `unique_recipients` AggregateFunction(uniqCombined64(14), String),
    `unique_opens` AggregateFunction(uniqCombined64(14), String),
    `unique_clicks` AggregateFunction(uniqCombined64(14), String),
    `last_landed_at` DateTime64(3, 'UTC')
)
ENGINE = Null;

-- A day of seconds. No uniques here: those of a window come from the minute table.
CREATE TABLE live.events_second
(
    `bucket_at` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `tenant_id` LowCardinality(String),
    `campaign_id` LowCardinality(String),
    `variant_id` LowCardinality(String),
    `channel` LowCardinality(String),
    `country` LowCardinality(String),
    `platform` LowCardinality(String),
    `provider` LowCardinality(String),
    `audience` LowCardinality(String),
    `targeted` SimpleAggregateFunction(sum, UInt64),
    `attempted` SimpleAggregateFunction(sum, UInt64),
    `sent` SimpleAggregateFunction(sum, UInt64),
    `delivered` SimpleAggregateFunction(sum, UInt64),
    `deferred` SimpleAggregateFunction(sum, UInt64),
    `bounced` SimpleAggregateFunction(sum, UInt64),
    `soft_bounced` SimpleAggregateFunction(sum, UInt64),
    `failed` SimpleAggregateFunction(sum, UInt64),
    `aborted` SimpleAggregateFunction(sum, UInt64),
    `opened` SimpleAggregateFunction(sum, UInt64),
    `clicked` SimpleAggregateFunction(sum, UInt64),
    `impressed` SimpleAggregateFunction(sum, UInt64),
    `converted` SimpleAggregateFunction(sum, UInt64),
    `unsubscribed` SimpleAggregateFunction(sum, UInt64),
    `complained` SimpleAggregateFunction(sum, UInt64),
    `events` SimpleAggregateFunction(sum, UInt64),
    `revenue` SimpleAggregateFunction(sum, Decimal(38, 4)),
    `cost` SimpleAggregateFunction(sum, Decimal(38, 4)),
    `last_landed_at` SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(bucket_at)
PRIMARY KEY (tenant_id, bucket_at, campaign_id)
ORDER BY (
    tenant_id, bucket_at, campaign_id, channel, variant_id, country, platform, provider, audience
)
TTL bucket_at + INTERVAL 1 DAY
SETTINGS non_replicated_deduplication_window = 30000, ttl_only_drop_parts = 1;

CREATE TABLE live.events_minute
(
    `bucket_at` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `tenant_id` LowCardinality(String),
    `campaign_id` LowCardinality(String),
    `variant_id` LowCardinality(String),
    `channel` LowCardinality(String),
    `country` LowCardinality(String),
    `platform` LowCardinality(String),
    `provider` LowCardinality(String),
    `audience` LowCardinality(String),
    `targeted` SimpleAggregateFunction(sum, UInt64),
    `attempted` SimpleAggregateFunction(sum, UInt64),
    `sent` SimpleAggregateFunction(sum, UInt64),
    `delivered` SimpleAggregateFunction(sum, UInt64),
    `deferred` SimpleAggregateFunction(sum, UInt64),
    `bounced` SimpleAggregateFunction(sum, UInt64),
    `soft_bounced` SimpleAggregateFunction(sum, UInt64),
    `failed` SimpleAggregateFunction(sum, UInt64),
    `aborted` SimpleAggregateFunction(sum, UInt64),
    `opened` SimpleAggregateFunction(sum, UInt64),
    `clicked` SimpleAggregateFunction(sum, UInt64),
    `impressed` SimpleAggregateFunction(sum, UInt64),
    `converted` SimpleAggregateFunction(sum, UInt64),
    `unsubscribed` SimpleAggregateFunction(sum, UInt64),
    `complained` SimpleAggregateFunction(sum, UInt64),
    `events` SimpleAggregateFunction(sum, UInt64),
    `revenue` SimpleAggregateFunction(sum, Decimal(38, 4)),
    `cost` SimpleAggregateFunction(sum, Decimal(38, 4)),
    `unique_recipients` AggregateFunction(uniqCombined64(14), String),
    `unique_opens` AggregateFunction(uniqCombined64(14), String),
    `unique_clicks` AggregateFunction(uniqCombined64(14), String),
    `last_landed_at` SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toMonday(bucket_at)
PRIMARY KEY (tenant_id, bucket_at, campaign_id)
ORDER BY (
    tenant_id, bucket_at, campaign_id, channel, variant_id, country, platform, provider, audience
)
TTL bucket_at + INTERVAL 35 DAY
SETTINGS non_replicated_deduplication_window = 30000, ttl_only_drop_parts = 1;

-- Kept since landing, as raw.events is: history imported today stays as long as events of today.
CREATE TABLE live.events_hour
(
    `bucket_at` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `tenant_id` LowCardinality(String),
    `campaign_id` LowCardinality(String),
    `variant_id` LowCardinality(String),
    `channel` LowCardinality(String),
    `country` LowCardinality(String),
    `platform` LowCardinality(String),
    `provider` LowCardinality(String),
    `audience` LowCardinality(String),
    `targeted` SimpleAggregateFunction(sum, UInt64),
    `attempted` SimpleAggregateFunction(sum, UInt64),
    `sent` SimpleAggregateFunction(sum, UInt64),
    `delivered` SimpleAggregateFunction(sum, UInt64),
    `deferred` SimpleAggregateFunction(sum, UInt64),
    `bounced` SimpleAggregateFunction(sum, UInt64),
    `soft_bounced` SimpleAggregateFunction(sum, UInt64),
    `failed` SimpleAggregateFunction(sum, UInt64),
    `aborted` SimpleAggregateFunction(sum, UInt64),
    `opened` SimpleAggregateFunction(sum, UInt64),
    `clicked` SimpleAggregateFunction(sum, UInt64),
    `impressed` SimpleAggregateFunction(sum, UInt64),
    `converted` SimpleAggregateFunction(sum, UInt64),
    `unsubscribed` SimpleAggregateFunction(sum, UInt64),
    `complained` SimpleAggregateFunction(sum, UInt64),
    `events` SimpleAggregateFunction(sum, UInt64),
    `revenue` SimpleAggregateFunction(sum, Decimal(38, 4)),
    `cost` SimpleAggregateFunction(sum, Decimal(38, 4)),
    `unique_recipients` AggregateFunction(uniqCombined64(14), String),
    `unique_opens` AggregateFunction(uniqCombined64(14), String),
    `unique_clicks` AggregateFunction(uniqCombined64(14), String),
    `last_landed_at` SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(bucket_at)
PRIMARY KEY (tenant_id, bucket_at, campaign_id)
ORDER BY (
    tenant_id, bucket_at, campaign_id, channel, variant_id, country, platform, provider, audience
)
TTL toDateTime(last_landed_at) + INTERVAL 760 DAY
SETTINGS non_replicated_deduplication_window = 30000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW live.events_second_view TO live.events_second AS
SELECT
    bucket_at, tenant_id, campaign_id, variant_id, channel, country, platform, provider, audience,
    targeted, attempted, sent, delivered, deferred, bounced, soft_bounced, failed, aborted, opened,
    clicked, impressed, converted, unsubscribed, complained, events, revenue, cost,
    last_landed_at
FROM live.rollup_stage
WHERE grain = 1;

CREATE MATERIALIZED VIEW live.events_minute_view TO live.events_minute AS
SELECT
    toStartOfMinute(s.bucket_at) AS bucket_at,
    tenant_id, campaign_id, variant_id, channel, country, platform, provider, audience,
    sum(s.targeted) AS targeted, sum(s.attempted) AS attempted, sum(s.sent) AS sent,
    sum(s.delivered) AS delivered, sum(s.deferred) AS deferred, sum(s.bounced) AS bounced,
    sum(s.soft_bounced) AS soft_bounced, sum(s.failed) AS failed, sum(s.aborted) AS aborted,
    sum(s.opened) AS opened, sum(s.clicked) AS clicked, sum(s.impressed) AS impressed,
    sum(s.converted) AS converted, sum(s.unsubscribed) AS unsubscribed,
    sum(s.complained) AS complained, sum(s.events) AS events, sum(s.revenue) AS revenue,
    sum(s.cost) AS cost,
    uniqCombined64MergeState(14)(s.unique_recipients) AS unique_recipients,
    uniqCombined64MergeState(14)(s.unique_opens) AS unique_opens,
    uniqCombined64MergeState(14)(s.unique_clicks) AS unique_clicks,
    max(s.last_landed_at) AS last_landed_at
FROM live.rollup_stage AS s
WHERE grain <= 2
GROUP BY
    bucket_at, tenant_id, campaign_id, variant_id, channel, country, platform, provider, audience;

CREATE MATERIALIZED VIEW live.events_hour_view TO live.events_hour AS
SELECT
    toStartOfHour(s.bucket_at) AS bucket_at,
    tenant_id, campaign_id, variant_id, channel, country, platform, provider, audience,
    sum(s.targeted) AS targeted, sum(s.attempted) AS attempted, sum(s.sent) AS sent,
    sum(s.delivered) AS delivered, sum(s.deferred) AS deferred, sum(s.bounced) AS bounced,
    sum(s.soft_bounced) AS soft_bounced, sum(s.failed) AS failed, sum(s.aborted) AS aborted,
    sum(s.opened) AS opened, sum(s.clicked) AS clicked, sum(s.impressed) AS impressed,
    sum(s.converted) AS converted, sum(s.unsubscribed) AS unsubscribed,
    sum(s.complained) AS complained, sum(s.events) AS events, sum(s.revenue) AS revenue,
    sum(s.cost) AS cost,
    uniqCombined64MergeState(14)(s.unique_recipients) AS unique_recipients,
    uniqCombined64MergeState(14)(s.unique_opens) AS unique_opens,
    uniqCombined64MergeState(14)(s.unique_clicks) AS unique_clicks,
    max(s.last_landed_at) AS last_landed_at
FROM live.rollup_stage AS s
GROUP BY
    bucket_at, tenant_id, campaign_id, variant_id, channel, country, platform, provider, audience;

-- The last view, so that no event is seen by some of the tables only. herald/live/recount.py says
-- the same rule a second time, on purpose: the one checks the other.
CREATE MATERIALIZED VIEW live.rollup_stage_view TO live.rollup_stage AS
SELECT
    multiIf(
        e.occurred_at >= e.landed_at - INTERVAL 2 HOUR, 1,
        e.occurred_at >= e.landed_at - INTERVAL 2 DAY, 2,
        3
    ) AS grain,
    multiIf(
        grain = 1, toDateTime(toStartOfSecond(e.occurred_at), 'UTC'),
        grain = 2, toStartOfMinute(e.occurred_at),
        toStartOfHour(e.occurred_at)
    ) AS bucket_at,
    tenant_id, campaign_id, variant_id, channel, country, platform, provider,
    if(machine_open OR is_suspected_bot, 'machine', 'human') AS audience,
    countIf(action = 'targeted') AS targeted, countIf(action = 'attempted') AS attempted,
    countIf(action = 'sent') AS sent, countIf(action = 'delivered') AS delivered,
    countIf(action = 'deferred') AS deferred, countIf(action = 'bounced') AS bounced,
    countIf(action = 'soft_bounced') AS soft_bounced, countIf(action = 'failed') AS failed,
    countIf(action = 'aborted') AS aborted, countIf(action = 'opened') AS opened,
    countIf(action = 'clicked') AS clicked, countIf(action = 'impressed') AS impressed,
    countIf(action = 'converted') AS converted, countIf(action = 'unsubscribed') AS unsubscribed,
    countIf(action = 'marked_as_spam') AS complained,
    count() AS events,
    sum(ifNull(e.revenue, 0)) AS revenue,
    sum(ifNull(e.cost, 0)) AS cost,
    uniqCombined64StateIf(14)(user_id, action IN ('sent', 'impressed')) AS unique_recipients,
    uniqCombined64StateIf(14)(message_id, action = 'opened') AS unique_opens,
    uniqCombined64StateIf(14)(message_id, action = 'clicked') AS unique_clicks,
    max(e.landed_at) AS last_landed_at
FROM raw.events AS e
GROUP BY
    grain, bucket_at, tenant_id, campaign_id, variant_id, channel, country, platform, provider,
    audience;

-- Names for the live page: the reader may not read raw.
CREATE TABLE live.campaigns
(
    `tenant_id` LowCardinality(String),
    `campaign_id` String CODEC(ZSTD(1)),
    `name` String CODEC(ZSTD(1)),
    `channel` LowCardinality(String),
    `status` LowCardinality(String),
    `is_deleted` Bool,
    `updated_at` DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (tenant_id, campaign_id)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW live.campaigns_view TO live.campaigns AS
SELECT tenant_id, campaign_id, name, channel, status, is_deleted, updated_at
FROM raw.campaigns;

-- twice is harmless here: the newest version of a campaign wins
INSERT INTO live.campaigns
SELECT tenant_id, campaign_id, name, channel, status, is_deleted, updated_at
FROM raw.campaigns;
