/** World map: the darker a country, the more. A click goes down to it; the table does the same. */
import { Chart, colour, registerMap, tip, tooltip } from '../charts';
import { h, segmented, setText } from '../dom';
import { count, countryName, percent, short } from '../format';
import { type Actions, chartFrame, type Panel, type View } from '../panel';
import type { CountryRow } from '../protocol';

type Measure = 'sent' | 'open_rate' | 'click_rate';
const MEASURES: { value: Measure; text: string }[] = [
  { value: 'sent', text: 'Sent' },
  { value: 'open_rate', text: 'Open rate' },
  { value: 'click_rate', text: 'Click rate' },
];
/** Fewer deliveries than this say nothing about a rate. */
export const FEWEST = 20;

export function measure(row: CountryRow, by: Measure): number | null {
  if (by === 'sent') return row.sent;
  if (row.delivered < FEWEST) return null;
  return (by === 'open_rate' ? row.opened : row.clicked) / row.delivered;
}

/** Position on the colour scale, 0 to 1. Square root: one big country must not bleach the others. */
export function intensity(value: number | null, top: number): number {
  return value === null || value <= 0 || top <= 0 ? 0 : Math.sqrt(value / top);
}

interface Hovered {
  name: string;
}

export function mapPanel(actions: Actions): Panel {
  const panel = chartFrame('map', 'Countries');
  const scaleEnd = h('span');
  const legend = h(
    'p',
    { class: 'scale', 'aria-hidden': 'true' },
    h('span', {}, '0'),
    h('i', { class: 'scale-bar' }),
    scaleEnd,
  );
  const missing = h('p', { class: 'note' });
  panel.body.append(h('div', { class: 'map-foot' }, legend, missing));
  let by: Measure = 'sent';
  let latest: View | undefined;
  const pick = segmented('Colour the map by', MEASURES, (value) => {
    by = value as Measure;
    if (latest) update(latest);
  });
  pick.set(by);
  panel.tools.prepend(pick.element);

  let chart: Chart | undefined;
  let known: Set<string> | undefined;
  void import('virtual:world').then(({ default: world }) => {
    registerMap('world', world as never);
    known = new Set(world.features.map((one) => one.properties.name));
    chart = new Chart(panel.canvas, ({ name }) => {
      if (latest?.snapshot.countries.some((row) => row.country === name)) {
        actions.drill('country', name);
      }
    });
    if (latest) update(latest);
  });

  const text = (value: number | null): string => (by === 'sent' ? short(value) : percent(value));

  function update(view: View): void {
    latest = view;
    const rows = view.snapshot.countries;
    const values = rows.map((row) => measure(row, by));
    const top = Math.max(...values.map((value) => value ?? 0), 0);
    panel.caption(
      by === 'sent' ? 'messages sent' : `of delivered, countries with ${FEWEST} or more deliveries`,
    );
    setText(scaleEnd, text(top));
    const absent = known ? rows.filter((row) => !known?.has(row.country)) : [];
    setText(
      missing,
      absent.length
        ? `Not on the map: ${absent.map((row) => `${countryName(row.country)} ${text(measure(row, by))}`).join(', ')}`
        : '',
    );
    chart?.draw(() => option(view, by, top, text));
    const first = [...rows].sort((a, b) => b.sent - a.sent).slice(0, 3);
    panel.describe(
      `Messages by country. Most: ${first.map((row) => `${countryName(row.country)} ${count(row.sent)}`).join(', ') || 'none'}`,
      ['Country', 'Sent', 'Delivered', 'Opened', 'Clicked'],
      () =>
        [...rows]
          .sort((a, b) => b.sent - a.sent)
          .map((row) => ({
            key: row.country,
            cells: [
              countryName(row.country),
              count(row.sent),
              count(row.delivered),
              count(row.opened),
              count(row.clicked),
            ],
            onPick: () => actions.drill('country', row.country),
          })),
    );
  }
  return { id: 'map', title: 'Countries', element: panel.element, update };
}

function option(view: View, by: Measure, top: number, text: (value: number | null) => string) {
  const rows = new Map(view.snapshot.countries.map((row) => [row.country, row]));
  const border = colour('surface');
  return {
    tooltip: tooltip('item', ({ name }: Hovered) => {
      const row = rows.get(name);
      if (!row) return tip(countryName(name), [['Nothing in this window', '']]);
      return tip(countryName(name), [
        ['Sent', count(row.sent)],
        ['Delivered', count(row.delivered)],
        ['Open rate', text === undefined ? '' : percent(measure(row, 'open_rate'))],
        ['Click rate', percent(measure(row, 'click_rate'))],
      ]);
    }),
    series: [
      {
        type: 'map',
        map: 'world',
        aspectScale: 1,
        left: 0,
        right: 0,
        top: 0,
        bottom: 0,
        preserveAspect: 'contain',
        roam: false,
        selectedMode: false,
        itemStyle: { areaColor: colour('land'), borderColor: border, borderWidth: 0.6 },
        emphasis: {
          label: { show: false },
          itemStyle: { areaColor: colour('accent-strong'), borderColor: border },
        },
        label: { show: false },
        data: view.snapshot.countries.map((row) => ({
          name: row.country,
          value: measure(row, by) ?? 0,
          itemStyle: {
            areaColor: mix(
              colour('scale-low'),
              colour('scale-high'),
              intensity(measure(row, by), top),
            ),
            borderColor: row.country === view.filters.country ? colour('text') : border,
            borderWidth: row.country === view.filters.country ? 1.5 : 0.6,
          },
        })),
      },
    ],
  };
}

/** Between two colours written as #rrggbb. */
export function mix(from: string, to: string, share: number): string {
  const channel = (hex: string, i: number): number =>
    Number.parseInt(hex.slice(1 + i * 2, 3 + i * 2), 16);
  const parts = [0, 1, 2].map((i) =>
    Math.round(channel(from, i) + (channel(to, i) - channel(from, i)) * share)
      .toString(16)
      .padStart(2, '0'),
  );
  return `#${parts.join('')}`;
}
