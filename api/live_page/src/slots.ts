/** The slots of a window: the newest is still filling, and would look like a drop. */
import type { Snapshot } from './protocol';

/** Events of a moment have landed after this many seconds, when landing keeps up. */
const LANDING = 2;
/** Older data than this is no lag: nobody sends. */
const QUIET = 60;

export function slotSeconds(buckets: readonly string[]): number {
  const [first, second] = buckets;
  return first && second ? Math.round((Date.parse(second) - Date.parse(first)) / 1000) : 0;
}

/** How many slots, from the oldest, are over and have landed. */
export function completeSlots({
  rates,
  sent_at,
  stale_seconds: stale,
}: Pick<Snapshot, 'rates' | 'sent_at' | 'stale_seconds'>): number {
  const length = slotSeconds(rates.buckets) * 1000;
  const lag = stale !== null && stale < QUIET ? stale : 0;
  const until = Date.parse(sent_at) - (LANDING + lag) * 1000;
  return rates.buckets.filter((start) => Date.parse(start) + length <= until).length;
}
