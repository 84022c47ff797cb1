import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  backoff,
  Connection,
  SILENCE,
  SignedOut,
  type Socket,
  type State,
} from '../src/connection';
import { DEFAULTS } from '../src/filters';
import { snapshot } from './snapshot';

const FILTERS = { ...DEFAULTS, tenant: 'acme' };

class Wire implements Socket {
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  sent: Record<string, unknown>[] = [];
  closed = false;
  constructor(readonly path: string) {}
  send(data: string): void {
    this.sent.push(JSON.parse(data));
  }
  close(): void {
    this.closed = true;
  }
  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

let wires: Wire[];
let states: State[];
let refusals: string[];
let ticket: () => Promise<string>;
let connection: Connection;

beforeEach(() => {
  vi.useFakeTimers();
  wires = [];
  states = [];
  refusals = [];
  ticket = async () => `ticket-${wires.length}`;
  connection = new Connection(FILTERS, {
    ticket: () => ticket(),
    open: (path) => {
      const wire = new Wire(path);
      wires.push(wire);
      return wire;
    },
    onSnapshot: () => {},
    onState: (state) => states.push(state),
    onRefusal: (message) => refusals.push(message),
    now: () => Date.now(),
    random: () => 0,
  });
});

afterEach(() => {
  connection.stop();
  vi.useRealTimers();
});

const last = () => wires.at(-1) as Wire;
const settle = () => vi.advanceTimersByTimeAsync(0);
const kinds = () => states.map((state) => state.kind);

test('the wait doubles up to a quarter of a minute, less up to half by chance', () => {
  expect([1, 2, 3, 10].map((n) => backoff(n, 0))).toEqual([500, 1_000, 2_000, 15_000]);
  expect(backoff(2, 1)).toBe(500);
});

test('it is live at the first snapshot, not before', async () => {
  connection.start();
  await settle();
  expect(last().path).toBe('/v1/live/ws?audience=all&window=15&tenant=acme&ticket=ticket-0');
  last().onopen?.();
  expect(kinds()).toEqual(['connecting']);
  last().say(snapshot());
  expect(kinds()).toEqual(['connecting', 'live']);
});

test('a lost connection comes back with a new ticket, later each time', async () => {
  connection.start();
  await settle();
  last().onclose?.({ code: 1006, reason: '' });
  expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', attempt: 1 });
  await vi.advanceTimersByTimeAsync(500);
  expect(last().path).toContain('ticket=ticket-1');
  last().onclose?.({ code: 1006, reason: '' });
  await vi.advanceTimersByTimeAsync(999);
  expect(wires).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(1);
  expect(wires).toHaveLength(3);
  last().say(snapshot());
  last().onclose?.({ code: 1006, reason: '' });
  expect(states.at(-1)).toMatchObject({ attempt: 1 });
});

test('a server that falls silent is given up', async () => {
  connection.start();
  await settle();
  last().onopen?.();
  last().say(snapshot());
  await vi.advanceTimersByTimeAsync(SILENCE + 2_000);
  expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', reason: 'the server fell silent' });
  expect(wires[0]?.closed).toBe(true);
});

test('an ended session is not retried', async () => {
  ticket = async () => {
    throw new SignedOut('expired');
  };
  connection.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(kinds()).toEqual(['connecting', 'signed-out']);
  expect(wires).toHaveLength(0);
});

test('a server that is down is tried again until it answers', async () => {
  let calls = 0;
  ticket = async () => {
    calls += 1;
    if (calls < 3) throw new TypeError('Failed to fetch');
    return 'good';
  };
  connection.start();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(wires).toHaveLength(1);
});

test('changed filters go over the open connection, and into the next one', async () => {
  connection.start();
  await settle();
  last().onopen?.();
  connection.setFilters({ ...FILTERS, campaign: 'c1' });
  expect(last().sent).toEqual([
    { type: 'filters', tenant: 'acme', audience: 'all', window: '15', campaign: 'c1' },
  ]);
  last().onclose?.({ code: 1006, reason: '' });
  await vi.advanceTimersByTimeAsync(500);
  expect(last().path).toContain('campaign=c1');
});

test('filters changed while connecting are asked for once it is open', async () => {
  connection.start();
  await settle();
  connection.setFilters({ ...FILTERS, country: 'DE' });
  expect(last().sent).toEqual([]);
  last().onopen?.();
  expect(last().sent).toMatchObject([{ type: 'filters', country: 'DE' }]);
});

test('what the server refuses is shown, what it should not say is ignored', async () => {
  connection.start();
  await settle();
  last().say({ type: 'error', message: 'no tenant acme' });
  last().onmessage?.({ data: 'not json' });
  last().say({ type: 'surprise' });
  expect(refusals).toEqual(['no tenant acme']);
  expect(kinds()).toEqual(['connecting']);
});

test('trying now does not wait', async () => {
  connection.start();
  await settle();
  last().onclose?.({ code: 1006, reason: '' });
  connection.retryNow();
  await settle();
  expect(wires).toHaveLength(2);
});
