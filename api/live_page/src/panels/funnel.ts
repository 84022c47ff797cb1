/** From targeted to converted: a ribbon whose height is the count, and the share of the step before. */
import { area, curveMonotoneX } from 'd3-shape';
import { h, reconcile, setAttribute, setText, svg } from '../dom';
import { count, label, percent, short } from '../format';
import { frame, type Panel } from '../panel';
import type { FunnelStage } from '../protocol';
import { Tween } from '../tween';

const HEIGHT = 100;
/** The share of a column in which the ribbon is level; the rest leads to the next stage. */
const LEVEL = 0.5;
/** A count that is not zero can be seen. */
const THINNEST = 0.8;

/** Path of the ribbon for the counts of the stages, in columns of width 1. */
export function ribbon(values: readonly number[]): string {
  const top = Math.max(...values, 1);
  const points: [number, number][] = [];
  values.forEach((value, i) => {
    const half = value > 0 ? Math.max(THINNEST, (value / top) * HEIGHT) / 2 : 0;
    points.push([i, half], [i + LEVEL, half]);
    if (i === values.length - 1) points.push([i + 1, half]);
  });
  return (
    area<[number, number]>()
      .x(([x]) => x)
      .y0(([, half]) => HEIGHT / 2 + half)
      .y1(([, half]) => HEIGHT / 2 - half)
      .curve(curveMonotoneX)(points) ?? ''
  );
}

export function funnelPanel(): Panel {
  const { element, body, caption } = frame('funnel', 'Funnel');
  const path = svg('path', { class: 'ribbon' });
  const picture = svg(
    'svg',
    { class: 'funnel-picture', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    path,
  );
  const list = h('ol', { class: 'funnel' });
  body.append(h('div', { class: 'funnel-box' }, picture, list));
  const ribbons = new Tween((values) => path.setAttribute('d', ribbon(values)));
  const numbers = new WeakMap<Element, Tween>();

  function create(): Element {
    const value = h('strong', { class: 'stage-value' });
    const item = h(
      'li',
      {},
      h('span', { class: 'stage-name' }),
      value,
      h(
        'span',
        { class: 'stage-rate' },
        h('span', { class: 'stage-share' }),
        h('span', { class: 'unseen' }),
      ),
      h('span', { class: 'stage-track', 'aria-hidden': 'true' }, h('span', { class: 'stage-bar' })),
    );
    numbers.set(item, new Tween(([shown]) => setText(value, short(Math.round(shown ?? 0)))));
    return item;
  }

  function update(item: Element, stage: FunnelStage, before: FunnelStage | undefined, top: number) {
    setText(item.querySelector('.stage-name') as Element, label(stage.stage));
    numbers.get(item)?.to([stage.value]);
    setAttribute(item, 'title', count(stage.value));
    const share = before?.value ? stage.value / before.value : null;
    setText(item.querySelector('.stage-share') as Element, share === null ? '' : percent(share));
    setText(
      item.querySelector('.stage-rate .unseen') as Element,
      share === null || !before ? '' : ` of ${label(before.stage).toLowerCase()}`,
    );
    const bar = item.querySelector('.stage-bar') as HTMLElement;
    bar.style.setProperty('--share', String(top ? stage.value / top : 0));
  }

  return {
    id: 'funnel',
    title: 'Funnel',
    element,
    update: ({ snapshot }) => {
      const stages = snapshot.funnel;
      caption(
        `last ${snapshot.window_minutes} min, share of the step before; an open may answer an earlier send`,
      );
      setAttribute(picture, 'viewBox', `0 0 ${stages.length || 1} ${HEIGHT}`);
      list.style.setProperty('--stages', String(stages.length || 1));
      ribbons.to(stages.map((stage) => stage.value));
      const top = Math.max(...stages.map((stage) => stage.value), 0);
      reconcile(
        list,
        stages,
        (stage) => stage.stage,
        create,
        (item, stage) => update(item, stage, stages[stages.indexOf(stage) - 1], top),
      );
    },
  };
}
