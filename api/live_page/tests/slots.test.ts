import { expect, test } from 'vitest';
import { DEFAULTS } from '../src/filters';
import { levelOf } from '../src/panels/campaigns';
import { completeSlots, slotSeconds } from '../src/slots';
import { snapshot } from './snapshot';

const slots = (seconds: number) => ({
  by_channel: {},
  by_provider: {},
  buckets: Array.from({ length: 60 }, (_, i) =>
    new Date(Date.parse('2026-11-24T12:00:00Z') + i * seconds * 1000).toISOString(),
  ),
});

test('the slot that fills, and the one whose events still land, are not drawn', () => {
  const rates = slots(15);
  expect(slotSeconds(rates.buckets)).toBe(15);
  expect(completeSlots({ rates, sent_at: '2026-11-24T12:14:50Z', stale_seconds: 0.9 })).toBe(59);
  expect(completeSlots({ rates, sent_at: '2026-11-24T12:14:46Z', stale_seconds: 0.9 })).toBe(58);
  expect(completeSlots({ rates, sent_at: '2026-11-24T12:14:50Z', stale_seconds: 4 })).toBe(58);
  expect(completeSlots({ rates, sent_at: '2026-11-24T12:14:50Z', stale_seconds: 900 })).toBe(59);
  expect(
    completeSlots({ rates: slots(1), sent_at: '2026-11-24T12:01:00Z', stale_seconds: null }),
  ).toBe(58);
});

test('the table shows tenants, campaigns or variants: the next level down', () => {
  const tenants = ['a', 'b'].map((tenant) => ({ tenant, sent: 1, events: 2 }));
  const level = (filters: Partial<typeof DEFAULTS>, some = tenants) =>
    levelOf({ filters: { ...DEFAULTS, ...filters }, snapshot: snapshot({ tenants: some }) });
  expect(level({})).toBe('tenant');
  expect(level({}, tenants.slice(0, 1))).toBe('campaign');
  expect(level({ tenant: 'a' })).toBe('campaign');
  expect(level({ tenant: 'a', campaign: 'c' })).toBe('variant');
});
