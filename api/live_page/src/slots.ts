/** The slots of a window: the newest is still filling, and would look like a drop. */
import type { Snapshot } from './protocol';

/** Events of a moment have landed after this many milliseconds. */
const LANDING = 2_000;

export function slotSeconds(buckets: readonly string[]): number {
  const [first, second] = buckets;
  return first && second ? Math.round((Date.parse(second) - Date.parse(first)) / 1000) : 0;
}

/** How many slots, from the oldest, are over and have landed. */
export function completeSlots({ rates, sent_at }: Pick<Snapshot, 'rates' | 'sent_at'>): number {
  const length = slotSeconds(rates.buckets) * 1000;
  const until = Date.parse(sent_at) - LANDING;
  return rates.buckets.filter((start) => Date.parse(start) + length <= until).length;
}
