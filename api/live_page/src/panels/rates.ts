/** Events a second over the window, by channel (stacked: they add up) or provider (lines). */
import {
  Chart,
  colour,
  FONT,
  type Option,
  seriesColour,
  seriesNumber,
  tip,
  tooltip,
} from '../charts';
import { h, reconcile, setText } from '../dom';
import { clock, label, rate } from '../format';
import { chartFrame, type Panel } from '../panel';
import { completeSlots, slotSeconds } from '../slots';

interface Series {
  name: string;
  values: number[];
  index: number;
}

interface Hovered {
  dataIndex: number;
}

const MOST = 8;

/** The complete slots. Events before the hand-over name no provider: they are no series of it. */
function cut(rates: Record<string, number[]>, length: number): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(rates)
      .filter(([name]) => name !== '')
      .map(([name, values]) => [name, values.slice(0, length)]),
  );
}

/** The biggest series by their sum; the rest become one, so that nothing is left out. */
export function biggest(rates: Record<string, number[]>, most = MOST): Series[] {
  const sums = Object.entries(rates).map(([name, values]) => ({
    name,
    values,
    sum: values.reduce((total, value) => total + value, 0),
  }));
  sums.sort((a, b) => b.sum - a.sum || a.name.localeCompare(b.name));
  const kept = sums.length > most ? sums.slice(0, most - 1) : sums;
  const rest = sums.slice(kept.length);
  // the order of the picture is that of the names: it must not jump when two change places
  const series = kept
    .map(({ name, values }) => ({ name, values }))
    .sort((a, b) => a.name.localeCompare(b.name));
  if (rest.length) {
    const length = Math.max(...rest.map((one) => one.values.length));
    const values = Array.from({ length }, (_, i) =>
      rest.reduce((total, one) => total + (one.values[i] ?? 0), 0),
    );
    series.push({ name: 'other', values });
  }
  return series.map((one, index) => ({ ...one, index }));
}

export function ratesPanel(split: 'channel' | 'provider'): Panel {
  const title = split === 'channel' ? 'Rate by channel' : 'Rate by provider';
  const panel = chartFrame(`rate-${split}`, title);
  const legend = h('ul', { class: 'legend' });
  panel.body.prepend(legend);
  let chart: Chart | undefined;
  return {
    id: `rate-${split}`,
    title,
    element: panel.element,
    update: ({ snapshot }) => {
      // the slot that is still filling would look like a drop
      const complete = completeSlots(snapshot);
      const buckets = snapshot.rates.buckets.slice(0, complete);
      const series = biggest(
        cut(split === 'channel' ? snapshot.rates.by_channel : snapshot.rates.by_provider, complete),
      );
      const seconds = slotSeconds(buckets);
      panel.caption(seconds ? `events a second, points of ${seconds} s` : 'events a second');
      reconcile(
        legend,
        series,
        (one) => one.name,
        (one) =>
          h(
            'li',
            {},
            h('i', { class: `swatch series-${seriesNumber(one.name, one.index)}` }),
            h('span', {}),
            h('b', {}),
          ),
        (item, one) => {
          (item.children[0] as Element).className =
            `swatch series-${seriesNumber(one.name, one.index)}`;
          setText(item.children[1] as Element, label(one.name));
          setText(item.children[2] as Element, rate(one.values.at(-1)));
        },
      );
      chart ??= new Chart(panel.canvas);
      chart.draw(() => option(buckets, series, split === 'channel'));
      const now = series.map((one) => `${label(one.name)} ${rate(one.values.at(-1))}`).join(', ');
      panel.describe(
        `${title}, now: ${now || 'no events'}`,
        ['Time', ...series.map((one) => label(one.name))],
        () =>
          buckets
            .map((at, i) => ({
              key: at,
              cells: [clock(at), ...series.map((one) => rate(one.values[i]))],
            }))
            .reverse(),
      );
    },
  };
}

const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900];

/** Seconds between two labels of the time axis: at most eight of them, at round times. */
export function labelStep(buckets: readonly string[]): number {
  const span = slotSeconds(buckets) * buckets.length;
  return STEPS.find((step) => span / step <= 8) ?? 3600;
}

/** Whether a bucket is the first of a new step. */
export function isRound(buckets: readonly string[], i: number): boolean {
  const at = Date.parse(buckets[i] ?? '') / 1000;
  const step = labelStep(buckets);
  return at % step < Math.max(1, slotSeconds(buckets));
}

function option(buckets: string[], series: Series[], stacked: boolean): Option {
  const muted = colour('muted');
  return {
    grid: { left: 0, right: 8, top: 8, bottom: 0, outerBoundsMode: 'same' },
    tooltip: tooltip('axis', (params: Hovered[]) => {
      const at = params[0]?.dataIndex ?? 0;
      return tip(
        clock(buckets[at] ?? ''),
        series.map((one) => [
          label(one.name),
          rate(one.values[at]),
          seriesNumber(one.name, one.index),
        ]),
      );
    }),
    xAxis: {
      type: 'category',
      data: buckets,
      boundaryGap: false,
      axisLine: { lineStyle: { color: colour('line') } },
      axisTick: { show: false },
      axisLabel: {
        color: muted,
        fontFamily: FONT,
        fontSize: 11,
        hideOverlap: true,
        interval: (i: number) => isRound(buckets, i),
        formatter: (at: string) => clock(at, labelStep(buckets) < 60),
      },
    },
    yAxis: {
      type: 'value',
      min: 0,
      splitNumber: 3,
      splitLine: { lineStyle: { color: colour('line-soft') } },
      axisLabel: {
        color: muted,
        fontFamily: FONT,
        fontSize: 11,
        formatter: (value: number) => (value === 0 ? '0' : rate(value).replace('/s', '')),
      },
    },
    series: series.map((one) => {
      const paint = seriesColour(one.name, one.index);
      return {
        type: 'line',
        name: one.name,
        data: one.values,
        stack: stacked ? 'all' : undefined,
        showSymbol: false,
        symbol: 'circle',
        silent: true,
        lineStyle: { width: stacked ? 1.25 : 1.75, color: paint, cap: 'round', join: 'round' },
        itemStyle: { color: paint },
        areaStyle: stacked ? { color: paint, opacity: 0.24 } : undefined,
        emphasis: { disabled: true },
      };
    }),
  };
}
