/** Key figures: value, change against a week ago, the last sixty points. */
import { area, curveMonotoneX, line } from 'd3-shape';
import { h, reconcile, setAttribute, setText, svg } from '../dom';
import { byUnit, count, delta } from '../format';
import { frame, type Panel } from '../panel';
import type { Kpi } from '../protocol';
import { completeSlots } from '../slots';
import { Tween } from '../tween';

const WIDTH = 120;
const HEIGHT = 32;

export interface SparkPaths {
  line: string;
  area: string;
}

/** Paths of a sparkline from zero up; gaps stay gaps. */
export function sparkPaths(values: readonly (number | null)[]): SparkPaths {
  const top = Math.max(...values.map((value) => value ?? 0), 0);
  const x = (_: unknown, i: number): number =>
    values.length > 1 ? (i / (values.length - 1)) * WIDTH : 0;
  const y = (value: number | null): number =>
    HEIGHT - 1 - (top > 0 ? ((value ?? 0) / top) * (HEIGHT - 3) : 0);
  const isThere = (value: number | null): boolean => value !== null && value !== undefined;
  return {
    line: line<number | null>().defined(isThere).x(x).y(y).curve(curveMonotoneX)(values) ?? '',
    area:
      area<number | null>().defined(isThere).x(x).y0(HEIGHT).y1(y).curve(curveMonotoneX)(values) ??
      '',
  };
}

class Tile {
  readonly element: HTMLElement;
  private readonly label = h('h3');
  private readonly value = h('p', { class: 'kpi-value' });
  private readonly change = h('span');
  private readonly against = h('span', { class: 'unseen' });
  private readonly delta = h('p', { class: 'kpi-delta' }, this.change, this.against);
  private readonly strokePath = svg('path', { class: 'spark-line' });
  private readonly areaPath = svg('path', { class: 'spark-area' });
  private readonly tween: Tween;
  private unit: Kpi['unit'] = 'count';

  constructor() {
    this.tween = new Tween(([value]) => {
      const whole = this.unit === 'count' ? Math.round(value ?? 0) : value;
      setText(this.value, byUnit(whole, this.unit));
    });
    this.element = h(
      'li',
      { class: 'kpi' },
      this.label,
      h('div', { class: 'kpi-figures' }, this.value, this.delta),
      svg(
        'svg',
        {
          class: 'spark',
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          preserveAspectRatio: 'none',
          'aria-hidden': 'true',
        },
        this.areaPath,
        this.strokePath,
      ),
    );
  }

  update(kpi: Kpi, complete: number): void {
    this.unit = kpi.unit;
    setText(this.label, kpi.label);
    if (kpi.value === null) setText(this.value, byUnit(null, kpi.unit));
    else this.tween.to([kpi.value]);
    setAttribute(this.element, 'title', kpi.unit === 'ratio' ? null : count(kpi.value));
    const change = delta(kpi);
    setText(this.change, change?.text ?? '');
    setText(this.against, change ? ' against a week ago' : 'nothing to compare with');
    setAttribute(this.delta, 'data-tone', change?.tone ?? 'none');
    const paths = sparkPaths(kpi.spark.slice(0, complete));
    this.strokePath.setAttribute('d', paths.line);
    this.areaPath.setAttribute('d', paths.area);
  }
}

export function kpisPanel(): Panel {
  const { element, body, caption } = frame('kpis', 'Key figures');
  const list = h('ul', { class: 'kpis' });
  const tiles = new WeakMap<Element, Tile>();
  body.append(list);
  return {
    id: 'kpis',
    title: 'Key figures',
    element,
    update: ({ snapshot }) => {
      const compared = snapshot.kpis.some((kpi) => delta(kpi) !== undefined);
      const against = compared
        ? 'change against the same time a week ago'
        : 'nothing of a week ago to compare with';
      caption(`last ${snapshot.window_minutes} min, ${against}`);
      const complete = completeSlots(snapshot);
      reconcile(
        list,
        snapshot.kpis,
        (kpi) => kpi.name,
        () => {
          const tile = new Tile();
          tiles.set(tile.element, tile);
          return tile.element;
        },
        (tile, kpi) => tiles.get(tile)?.update(kpi, complete),
      );
    },
  };
}
