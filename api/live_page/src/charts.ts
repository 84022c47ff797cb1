/** ECharts with only the parts that this page draws, in the colours and type of the page. */
import { HeatmapChart, LineChart, MapChart } from 'echarts/charts';
import {
  GeoComponent,
  GridComponent,
  TooltipComponent,
  VisualMapComponent,
} from 'echarts/components';
import type { EChartsCoreOption } from 'echarts/core';
import * as echarts from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';
import { h } from './dom';
import { onThemeChange } from './theme';

echarts.use([
  CanvasRenderer,
  GeoComponent,
  GridComponent,
  HeatmapChart,
  LineChart,
  MapChart,
  TooltipComponent,
  VisualMapComponent,
]);

export const registerMap = echarts.registerMap;
export type Option = EChartsCoreOption;

/** A colour of the style sheet, for a canvas that cannot read it. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const FONT = "'Inter Variable', system-ui, sans-serif";

/** Known series have a colour of their own, so that a channel looks alike wherever it shows. */
const SERIES: Record<string, number> = {
  email: 1,
  push: 2,
  sms: 3,
  in_app: 4,
  web_push: 5,
  whatsapp: 6,
  content_card: 7,
  webhook: 8,
};
const SERIES_COLOURS = 8;

export function seriesColour(name: string, index: number): string {
  return colour(`series-${seriesNumber(name, index)}`);
}

export function seriesNumber(name: string, index: number): number {
  return SERIES[name] ?? (index % SERIES_COLOURS) + 1;
}

/** One chart: fits its box, is drawn anew when the theme changes. */
export class Chart {
  private readonly chart: echarts.ECharts;
  private build: (() => Option) | undefined;
  private scheduled = false;

  constructor(
    private readonly element: HTMLElement,
    onClick?: (params: { name: string; dataIndex: number }) => void,
  ) {
    this.chart = echarts.init(element, null, { renderer: 'canvas' });
    // pictures are described by the figure's label and by the table
    element.setAttribute('aria-hidden', 'true');
    if (onClick) this.chart.on('click', (params) => onClick(params as never));
    new ResizeObserver(() => this.resize()).observe(element);
    onThemeChange(() => this.redraw());
  }

  draw(build: () => Option): void {
    this.build = build;
    this.redraw();
  }

  private redraw(): void {
    if (!this.build || !this.isShown()) return;
    this.chart.setOption(
      { textStyle: { fontFamily: FONT }, animation: false, ...this.build() },
      { notMerge: false, replaceMerge: ['series'] },
    );
  }

  /** A chart behind its table has no size, and a map without one cannot be drawn. */
  private isShown(): boolean {
    return this.element.clientWidth > 0 && this.element.clientHeight > 0;
  }

  private resize(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (!this.isShown()) return;
      this.chart.resize();
      this.redraw();
    });
  }
}

/** A tooltip made of elements: the policy of the page allows no style in text. */
export function tip(title: string, rows: [string, string, number?][]): HTMLElement {
  return h(
    'div',
    { class: 'tip' },
    h('strong', {}, title),
    ...rows.map(([name, value, series]) =>
      h(
        'div',
        { class: 'tip-row' },
        series ? h('i', { class: `swatch series-${series}` }) : null,
        h('span', {}, name),
        h('b', {}, value),
      ),
    ),
  );
}

export function tooltip(
  trigger: 'item' | 'axis',
  formatter: (params: never) => HTMLElement | string,
) {
  return {
    trigger,
    formatter,
    confine: true,
    className: 'chart-tip',
    transitionDuration: 0,
    padding: 0,
    borderWidth: 0,
    backgroundColor: 'transparent',
    extraCssText: 'box-shadow:none',
    axisPointer: { type: 'line', lineStyle: { color: colour('muted'), width: 1, type: 'solid' } },
  };
}
