import type { Snapshot } from '../src/protocol';

/** A snapshot in which nothing has happened. */
export function snapshot(part: Partial<Snapshot> = {}): Snapshot {
  return {
    type: 'snapshot',
    schema: 1,
    sequence: 1,
    as_of: '2026-11-24T12:00:00Z',
    sent_at: '2026-11-24T12:00:01Z',
    tenant: 'acme',
    filters: {},
    window_minutes: 15,
    stale_seconds: 1,
    problem: null,
    tenants: [],
    kpis: [],
    funnel: [],
    rates: { buckets: [], by_channel: {}, by_provider: {} },
    countries: [],
    hours: [],
    devices: [],
    campaigns: [],
    variants: [],
    alerts: [],
    ...part,
  };
}
