import { expect, test } from 'vitest';
import { crumbs, DEFAULTS, drill, fromQuery, toQuery, toRequest, upTo } from '../src/filters';

const DEEP = { ...DEFAULTS, tenant: 'acme', campaign: 'c1', variant: 'b', country: 'DE' };

test('an address gives back the filters that made it', () => {
  const filters = { ...DEEP, channel: 'sms', audience: 'human' as const, window: 60 };
  expect(fromQuery(toQuery(filters))).toEqual(filters);
});

test('defaults are left out of the address', () => {
  expect(toQuery({ ...DEFAULTS, tenant: 'acme' })).toBe('tenant=acme');
});

test('wrong values in an address fall back to the defaults', () => {
  expect(fromQuery('tenant=acme&audience=robots&window=7')).toEqual({
    ...DEFAULTS,
    tenant: 'acme',
  });
});

test('names with special characters survive the address', () => {
  const filters = { ...DEFAULTS, tenant: 'a&b=c', campaign: 'été 50%' };
  expect(fromQuery(toQuery(filters))).toEqual(filters);
});

test('another campaign drops the variant and keeps the country', () => {
  expect(drill(DEEP, 'campaign', 'c2')).toEqual({ ...DEEP, campaign: 'c2', variant: '' });
});

test('going up clears every level below', () => {
  expect(upTo(DEEP, 'campaign')).toEqual({ ...DEEP, variant: '', country: '' });
  expect(crumbs(upTo(DEEP, 'tenant')).map((crumb) => crumb.level)).toEqual(['all', 'tenant']);
  expect(upTo(DEEP, 'all')).toEqual(DEFAULTS);
});

test('a request names only the filters that are set', () => {
  expect(toRequest({ ...DEFAULTS, tenant: 'acme', country: 'DE' })).toEqual({
    tenant: 'acme',
    audience: 'all',
    window: '15',
    country: 'DE',
  });
});
