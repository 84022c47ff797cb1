/** What the page may claim about its data, from the connection and the last snapshot. */
import type { State } from './connection';
import { clock, duration } from './format';
import type { Snapshot } from './protocol';

/** Nothing landed for longer than this: say it, since a quiet hour and a broken pipe look alike. */
export const QUIET_AFTER = 60;
/** A connected server that has not spoken for longer than this is late. */
export const LATE_AFTER = 4_000;

export type Tone = 'live' | 'quiet' | 'waiting' | 'lost';

export interface Freshness {
  tone: Tone;
  /** One or two words for the badge. */
  title: string;
  /** A sentence with the figures. */
  detail: string;
  /** Whether the numbers on the page are current. */
  current: boolean;
}

export interface Seen {
  snapshot: Snapshot;
  /** Milliseconds on the clock of `now`. */
  receivedAt: number;
}

/** Age of the data in seconds, without trusting the reader's clock. */
export function age(seen: Seen, now: number): number | undefined {
  const { stale_seconds: stale } = seen.snapshot;
  if (stale === null || stale === undefined) return undefined;
  return stale + (now - seen.receivedAt) / 1000;
}

export function freshness(state: State, seen: Seen | undefined, now: number): Freshness {
  const asOf = seen?.snapshot.as_of;
  const seconds = seen ? age(seen, now) : undefined;
  const since =
    asOf && seconds !== undefined
      ? `data as of ${clock(asOf)}, ${duration(seconds)} ago`
      : 'no data yet';
  if (state.kind === 'reconnecting') {
    const wait = Math.max(0, Math.ceil((state.retryAt - now) / 1000));
    const when = wait > 0 ? `trying again in ${wait} s` : 'trying again now';
    return {
      tone: 'lost',
      title: 'Reconnecting',
      detail: `${sentence(state.reason)}; ${when}. Shown: ${since}`,
      current: false,
    };
  }
  if (state.kind === 'signed-out') {
    return { tone: 'lost', title: 'Signed out', detail: `Shown: ${since}`, current: false };
  }
  if (state.kind === 'connecting' || !seen) {
    return { tone: 'waiting', title: 'Connecting', detail: sentence(since), current: false };
  }
  const silent = now - seen.receivedAt;
  if (silent > LATE_AFTER) {
    return {
      tone: 'lost',
      title: 'Stale',
      detail: `The server has not spoken for ${duration(silent / 1000)}; ${since}`,
      current: false,
    };
  }
  if (seen.snapshot.problem) {
    return {
      tone: 'lost',
      title: 'Stale',
      detail: `${sentence(seen.snapshot.problem)}; ${since}`,
      current: false,
    };
  }
  if (seconds === undefined || !asOf) {
    return { tone: 'quiet', title: 'Quiet', detail: 'No event has landed yet', current: true };
  }
  if (seconds > QUIET_AFTER) {
    return {
      tone: 'quiet',
      title: 'Quiet',
      detail: `No event has landed since ${clock(asOf)} (${duration(seconds)} ago)`,
      current: true,
    };
  }
  return {
    tone: 'live',
    title: 'Live',
    detail: `Data as of ${clock(asOf)}, ${duration(seconds)} ago`,
    current: true,
  };
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
