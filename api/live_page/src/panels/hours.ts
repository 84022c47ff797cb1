/** Weekday by hour: when it is busy. */
import { Chart, colour, FONT, tip, tooltip } from '../charts';
import { count, DAYS } from '../format';
import { chartFrame, type Panel } from '../panel';

interface Hovered {
  value: [number, number, number];
}

const HOURS = Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, '0'));

export function hoursPanel(): Panel {
  const panel = chartFrame('hours', 'Hours of the week');
  let chart: Chart | undefined;
  return {
    id: 'hours',
    title: 'Hours of the week',
    element: panel.element,
    update: ({ snapshot }) => {
      panel.caption('messages sent in the last 7 days, UTC');
      const cells = snapshot.hours;
      const top = darkest(cells.map(([, , value]) => value));
      chart ??= new Chart(panel.canvas);
      chart.draw(() => option(cells, top));
      const [day, hour, most] = cells.reduce((best, cell) => (cell[2] > best[2] ? cell : best), [
        0, 0, 0,
      ] as [number, number, number]);
      panel.describe(
        most
          ? `Messages by weekday and hour. Busiest: ${DAYS[day]} ${HOURS[hour]}:00 with ${count(most)}`
          : 'Messages by weekday and hour: none yet',
        ['Hour', ...DAYS],
        () => {
          const values = new Map(cells.map(([d, hr, value]) => [`${d}-${hr}`, value]));
          return HOURS.map((name, hr) => ({
            key: name,
            cells: [`${name}:00`, ...DAYS.map((_, d) => count(values.get(`${d}-${hr}`) ?? 0))],
          }));
        },
      );
    },
  };
}

function option(cells: [number, number, number][], top: number) {
  const empty = colour('land');
  const axis = {
    axisLine: { show: false },
    axisTick: { show: false },
    splitArea: { show: false },
    axisLabel: { color: colour('muted'), fontFamily: FONT, fontSize: 11 },
  };
  return {
    grid: { left: 0, right: 0, top: 2, bottom: 0, outerBoundsMode: 'same' },
    tooltip: tooltip('item', ({ value: [hour, day, sent] }: Hovered) =>
      tip(`${DAYS[day]} ${HOURS[hour]}:00–${HOURS[hour]}:59 UTC`, [['Sent', count(sent)]]),
    ),
    xAxis: {
      ...axis,
      type: 'category',
      data: HOURS,
      axisLabel: { ...axis.axisLabel, interval: 5 },
    },
    yAxis: { ...axis, type: 'category', data: [...DAYS], inverse: true },
    visualMap: {
      show: false,
      min: 0,
      max: Math.max(1, Math.sqrt(top)),
      dimension: 3,
      inRange: { color: [colour('scale-low'), colour('scale-high')] },
    },
    series: [
      {
        type: 'heatmap',
        data: full(cells).map(([day, hour, value]) => ({
          value: [hour, day, value, Math.sqrt(Math.min(value, top))],
          // an hour without a message has the colour of empty land
          ...(value ? {} : { visualMap: false, itemStyle: { color: empty } }),
        })),
        itemStyle: { borderColor: colour('surface'), borderWidth: 2, borderRadius: 4 },
        emphasis: { itemStyle: { borderColor: colour('text'), borderWidth: 1 } },
      },
    ],
  };
}

/**
 * The count from which on an hour is as dark as it gets: that of the fourth busiest. One big send
 * would bleach the rest of the week.
 */
export function darkest(values: readonly number[]): number {
  const falling = [...values].sort((a, b) => b - a);
  return Math.max(1, falling[3] ?? falling[0] ?? 1);
}

/** Every cell of the week; those without a message are zero. */
export function full(cells: readonly [number, number, number][]): [number, number, number][] {
  const values = new Map(cells.map(([day, hour, value]) => [day * 24 + hour, value]));
  return Array.from({ length: 168 }, (_, i) => [Math.floor(i / 24), i % 24, values.get(i) ?? 0]);
}
