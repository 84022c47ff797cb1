import { expect, test } from 'vitest';
import { freshness } from '../src/freshness';
import { snapshot } from './snapshot';

const LIVE = { kind: 'live' } as const;
const seen = (stale: number | null, as_of: string | null = '2026-11-24T12:00:00Z') => ({
  snapshot: snapshot({ stale_seconds: stale, as_of }),
  receivedAt: 10_000,
});

test('data is live while it is young, and its age grows between snapshots', () => {
  const state = freshness(LIVE, seen(0.9), 12_000);
  expect(state).toMatchObject({ title: 'Live', current: true });
  expect(state.detail).toContain('2.9 s ago');
});

test('a connected page says that nothing has landed for a while', () => {
  expect(freshness(LIVE, seen(300), 10_500)).toMatchObject({ title: 'Quiet', current: true });
  expect(freshness(LIVE, seen(null, null), 10_500).detail).toBe('No event has landed yet');
});

test('a silent server makes the figures stale', () => {
  expect(freshness(LIVE, seen(1), 15_000)).toMatchObject({ title: 'Stale', current: false });
});

test('a server that cannot read its warehouse says so', () => {
  const state = freshness(
    LIVE,
    { ...seen(1), snapshot: snapshot({ problem: 'the warehouse does not answer' }) },
    10_500,
  );
  expect(state).toMatchObject({ title: 'Stale', current: false });
  expect(state.detail).toContain('The warehouse does not answer; data as of');
});

test('a lost connection is named with its reason, the wait and the age of what is shown', () => {
  const state = freshness(
    { kind: 'reconnecting', attempt: 2, retryAt: 13_200, reason: 'the connection was lost' },
    seen(1),
    12_000,
  );
  expect(state).toMatchObject({ title: 'Reconnecting', tone: 'lost', current: false });
  expect(state.detail).toContain('The connection was lost; trying again in 2 s');
  expect(state.detail).toContain('3.0 s ago');
});

test('nothing is claimed before the first snapshot', () => {
  expect(freshness({ kind: 'connecting' }, undefined, 0)).toMatchObject({
    title: 'Connecting',
    detail: 'No data yet',
    current: false,
  });
});
