/** What is shown. It lives in the address, so that it can be shared and the back button works. */
import type { Audience } from './protocol';

export const WINDOWS = [1, 5, 15, 60] as const;
export const AUDIENCES: readonly Audience[] = ['all', 'human', 'machine'];
/** The way down; clearing one level clears those below it. `all` is every tenant together. */
export const LEVELS = ['all', 'tenant', 'campaign', 'variant', 'country'] as const;
export type Level = (typeof LEVELS)[number];

export interface Filters {
  tenant: string;
  campaign: string;
  variant: string;
  country: string;
  channel: string;
  audience: Audience;
  window: number;
}

export const DEFAULTS: Filters = {
  tenant: '',
  campaign: '',
  variant: '',
  country: '',
  channel: '',
  audience: 'all',
  window: 15,
};

/** Read an address's query; what cannot be used falls back to the default. */
export function fromQuery(query: string): Filters {
  const given = new URLSearchParams(query);
  const audience = given.get('audience') as Audience;
  const window = Number(given.get('window'));
  return {
    tenant: given.get('tenant') ?? '',
    campaign: given.get('campaign') ?? '',
    variant: given.get('variant') ?? '',
    country: given.get('country') ?? '',
    channel: given.get('channel') ?? '',
    audience: AUDIENCES.includes(audience) ? audience : DEFAULTS.audience,
    window: (WINDOWS as readonly number[]).includes(window) ? window : DEFAULTS.window,
  };
}

/** As a query without what is default, in a fixed order: equal filters give equal addresses. */
export function toQuery(filters: Filters): string {
  const query = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS) as (keyof Filters)[]) {
    if (filters[key] !== DEFAULTS[key]) query.set(key, String(filters[key]));
  }
  return query.toString();
}

/** All of them, as the API wants to be asked. */
export function toRequest(filters: Filters): Record<string, string> {
  const request: Record<string, string> = {
    audience: filters.audience,
    window: String(filters.window),
  };
  for (const key of ['tenant', 'campaign', 'variant', 'channel', 'country'] as const) {
    if (filters[key]) request[key] = filters[key];
  }
  return request;
}

/** Go down (or across) to a value. A variant belongs to a campaign: changing that one drops it. */
export function drill(filters: Filters, level: Exclude<Level, 'all'>, value: string): Filters {
  if (level === 'tenant') return { ...upTo(filters, 'all'), tenant: value };
  if (level === 'campaign') return { ...filters, campaign: value, variant: '' };
  return { ...filters, [level]: value };
}

/** Go back up to a level: everything below it is cleared. */
export function upTo(filters: Filters, level: Level): Filters {
  const kept = { ...filters };
  for (const below of LEVELS.slice(LEVELS.indexOf(level) + 1)) {
    if (below !== 'all') kept[below] = '';
  }
  return kept;
}

export interface Crumb {
  level: Level;
  value: string;
}

/** The levels that are set, from every tenant down. */
export function crumbs(filters: Filters): Crumb[] {
  const path: Crumb[] = [{ level: 'all', value: '' }];
  for (const level of LEVELS) {
    if (level !== 'all' && filters[level]) path.push({ level, value: filters[level] });
  }
  return path;
}

export function sameFilters(a: Filters, b: Filters): boolean {
  return toQuery(a) === toQuery(b);
}
