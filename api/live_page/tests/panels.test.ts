import { expect, test } from 'vitest';
import { answers } from '../src/dashboard';
import { reconcile } from '../src/dom';
import { DEFAULTS } from '../src/filters';
import { DEFAULT_LAYOUT, keyMove, readingOrder, readLayout } from '../src/layout';
import { ordered, safeLink } from '../src/panels/alerts';
import { failing, failureLevel, sorted } from '../src/panels/campaigns';
import { ribbon } from '../src/panels/funnel';
import { darkest, full } from '../src/panels/hours';
import { sparkPaths } from '../src/panels/kpis';
import { intensity, measure, mix } from '../src/panels/map';
import { biggest, isRound, labelStep } from '../src/panels/rates';
import type { Alert, Performance } from '../src/protocol';
import { snapshot } from './snapshot';

function performance(part: Partial<Performance>): Performance {
  return {
    campaign_id: 'c',
    sent: 0,
    delivered: 0,
    opened: 0,
    clicked: 0,
    converted: 0,
    bounced: 0,
    aborted: 0,
    delivery_rate: null,
    open_rate: null,
    click_rate: null,
    bounce_rate: null,
    ...part,
  };
}

function alert(part: Partial<Alert>): Alert {
  return {
    alert_id: 'a',
    tenant_id: 'acme',
    rule: 'r',
    severity: 'info',
    status: 'firing',
    summary: 's',
    opened_at: '2026-11-24T12:00:00Z',
    ...part,
  };
}

test('campaigns sort by any column, unknown rates last both ways', () => {
  const rows = [
    performance({ campaign_id: 'a', open_rate: 0.2 }),
    performance({ campaign_id: 'b', open_rate: null }),
    performance({ campaign_id: 'c', open_rate: 0.4 }),
  ];
  const ids = (descending: boolean) =>
    sorted(rows, { column: 'open_rate', descending }).map((row) => row.campaign_id);
  expect(ids(true)).toEqual(['c', 'a', 'b']);
  expect(ids(false)).toEqual(['a', 'c', 'b']);
});

test('failing is the share that never arrived, and silent about a handful', () => {
  expect(failing(performance({ sent: 90, bounced: 5, aborted: 10 }))).toBeCloseTo(0.15);
  expect(failing(performance({ sent: 10, bounced: 10 }))).toBeNull();
  expect([null, 0.01, 0.06, 0.5].map(failureLevel)).toEqual([null, null, 'worn', 'bad']);
});

test('alerts: firing first, then the most severe, then the newest; resolved ones are gone', () => {
  const alerts = [
    alert({ alert_id: 'done', status: 'resolved', severity: 'critical' }),
    alert({ alert_id: 'seen', status: 'acknowledged', severity: 'critical' }),
    alert({ alert_id: 'old', severity: 'warning', opened_at: '2026-11-24T11:00:00Z' }),
    alert({ alert_id: 'new', severity: 'warning' }),
    alert({ alert_id: 'worst', severity: 'critical' }),
  ];
  expect(ordered(alerts).map((one) => one.alert_id)).toEqual(['worst', 'new', 'old', 'seen']);
});

test('a runbook becomes a link only when it is an address of a page', () => {
  expect(safeLink('https://wiki.example/runbook')).toBe('https://wiki.example/runbook');
  expect(safeLink('/docs/x')).toBe('/docs/x');
  for (const text of ['javascript:alert(1)', '//evil.example', 'docs/x.md', '', null]) {
    expect(safeLink(text)).toBeUndefined();
  }
});

test('the smaller series become one, and nothing is lost', () => {
  const rates = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`p${i}`, [i, i]]));
  const series = biggest(rates, 4);
  expect(series.map((one) => one.name)).toEqual(['p10', 'p11', 'p9', 'other']);
  expect(series.reduce((sum, one) => sum + (one.values[0] ?? 0), 0)).toBe(66);
});

test('the time axis is labelled at round times', () => {
  const start = Date.parse('2026-11-24T12:00:07Z');
  const buckets = Array.from({ length: 60 }, (_, i) => new Date(start + i * 15_000).toISOString());
  expect(labelStep(buckets)).toBe(120);
  const labelled = buckets.filter((_, i) => isRound(buckets, i));
  expect(labelled.map((at) => at.slice(14, 16))).toEqual([
    '00',
    '02',
    '04',
    '06',
    '08',
    '10',
    '12',
    '14',
  ]);
});

test('heights of the funnel follow the counts, and a few are still seen', () => {
  expect(ribbon([100, 50])).toContain('C0.667,0,0.833,25,1,25');
  expect(ribbon([0, 0])).toContain('M0,50');
  expect(ribbon([1_000_000, 1])).toContain('1,49.6');
});

test('a sparkline starts at zero and keeps its gaps', () => {
  expect(sparkPaths([0, 10]).line).toBe('M0,31L120,2');
  expect(sparkPaths([1, null, 1, 1]).line.match(/M/g)).toHaveLength(2);
  expect(sparkPaths([]).line).toBe('');
});

test('a country with few deliveries has no rate on the map', () => {
  const row = { country: 'DE', sent: 9, delivered: 9, opened: 9, clicked: 1 };
  expect(measure(row, 'open_rate')).toBeNull();
  expect(measure({ ...row, delivered: 90 }, 'open_rate')).toBeCloseTo(0.1);
  expect([intensity(null, 5), intensity(0, 5), intensity(5, 5)]).toEqual([0, 0, 1]);
  expect(mix('#000000', '#ff8000', 0.5)).toBe('#804000');
});

test('the week has every hour', () => {
  const cells = full([[6, 23, 4]]);
  expect(cells).toHaveLength(168);
  expect(cells.at(-1)).toEqual([6, 23, 4]);
});

test('three big hours do not bleach the week', () => {
  expect(darkest([9_000, 8_000, 7_000, 50, 40, 30])).toBe(50);
  expect(darkest([5])).toBe(5);
  expect(darkest([])).toBe(1);
});

test('a stored layout counts only when it has exactly these panels in the grid', () => {
  const good = JSON.stringify(DEFAULT_LAYOUT);
  expect(readLayout(good)).toEqual(DEFAULT_LAYOUT);
  expect(readLayout(null)).toBeUndefined();
  expect(readLayout('[1,2]')).toBeUndefined();
  expect(readLayout(good.replace('"w":12', '"w":13'))).toBeUndefined();
  expect(readLayout(good.replace('"kpis"', '"other"'))).toBeUndefined();
});

test('panels are read from the top left', () => {
  const order = readingOrder([...DEFAULT_LAYOUT].reverse()).map((place) => place.id);
  expect(order.slice(0, 4)).toEqual(['kpis', 'funnel', 'alerts', 'campaigns']);
});

test('arrows move a panel inside the grid, with shift they size it', () => {
  const at = { id: 'x', x: 6, y: 0, w: 6, h: 3 };
  expect(keyMove('ArrowRight', false, at)).toBeUndefined();
  expect(keyMove('ArrowLeft', false, at)).toEqual({ x: 5 });
  expect(keyMove('ArrowUp', false, at)).toBeUndefined();
  expect(keyMove('ArrowLeft', true, at)).toEqual({ w: 5 });
  expect(keyMove('ArrowDown', true, at)).toEqual({ h: 4 });
  expect(keyMove('Enter', false, at)).toBeUndefined();
});

test('figures are shown only for the filters they answer', () => {
  const filters = { ...DEFAULTS, tenant: 'acme' };
  const whole = { campaign: null, audience: 'all' };
  expect(answers(snapshot({ filters: whole }), filters)).toBe(true);
  expect(answers(snapshot({ filters: whole }), { ...filters, campaign: 'c1' })).toBe(false);
  expect(answers(snapshot({ filters: whole, window_minutes: 5 }), filters)).toBe(false);
  expect(answers(snapshot({ filters: whole, tenant: 'other' }), filters)).toBe(false);
});

test('rows keep their element and the focus when their order changes', () => {
  const list = document.createElement('ul');
  document.body.append(list);
  const draw = (items: string[]) =>
    reconcile(
      list,
      items,
      (item) => item,
      (item) => Object.assign(document.createElement('button'), { textContent: item }),
      () => {},
    );
  draw(['a', 'b', 'c']);
  const b = list.children[1] as HTMLElement;
  b.focus();
  draw(['c', 'b', 'd']);
  expect(Array.from(list.children, (child) => child.textContent)).toEqual(['c', 'b', 'd']);
  expect(list.children[1]).toBe(b);
  expect(document.activeElement).toBe(b);
});
