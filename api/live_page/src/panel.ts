/** The frame of every panel: heading, caption, tools, and the same figures as a table. */
import { h, reconcile, setAttribute, setText, uniqueId } from './dom';
import type { Filters } from './filters';
import type { Alert, Snapshot } from './protocol';

export interface View {
  snapshot: Snapshot;
  filters: Filters;
}

export interface Actions {
  drill(level: 'tenant' | 'campaign' | 'variant' | 'country', value: string): void;
  acknowledge(alert: Alert): Promise<void>;
  announce(text: string, urgent?: boolean): void;
}

export interface Panel {
  id: string;
  title: string;
  element: HTMLElement;
  update(view: View): void;
}

export interface Row {
  key: string;
  cells: string[];
  /** Makes the first cell a button. */
  onPick?: () => void;
}

export interface Frame {
  element: HTMLElement;
  body: HTMLElement;
  tools: HTMLElement;
  caption(text: string): void;
}

export function frame(id: string, title: string): Frame {
  const heading = uniqueId('panel');
  const caption = h('p', { class: 'caption' });
  const tools = h('div', { class: 'tools' });
  const body = h('div', { class: 'panel-body' });
  const element = h(
    'section',
    { class: `panel panel-${id}`, id: `panel-${id}`, 'aria-labelledby': heading },
    h(
      'header',
      { class: 'panel-head' },
      h('div', { class: 'panel-title' }, h('h2', { id: heading }, title), caption),
      tools,
    ),
    body,
  );
  return { element, body, tools, caption: (text) => setText(caption, text) };
}

export interface ChartFrame extends Frame {
  /** Where the chart draws. */
  canvas: HTMLElement;
  /** Say the chart in a sentence, and its figures in a table. */
  describe(summary: string, headers: string[], rows: () => Row[]): void;
}

/** A panel whose picture can be changed for its table. */
export function chartFrame(id: string, title: string): ChartFrame {
  const base = frame(id, title);
  const canvas = h('div', { class: 'canvas' });
  const figure = h('div', { class: 'figure', role: 'img' }, canvas);
  const head = h('tr');
  const rowsOf = h('tbody');
  const table = h(
    'div',
    {
      class: 'scroller',
      hidden: true,
      tabindex: 0,
      role: 'region',
      'aria-label': `${title}, table`,
    },
    h('table', { class: 'figures' }, h('thead', {}, head), rowsOf),
  );
  const toggle = h('button', { type: 'button', class: 'quiet', 'aria-pressed': 'false' }, 'Table');
  toggle.setAttribute('aria-label', `${title} as a table`);
  let latest: { headers: string[]; rows: () => Row[] } | undefined;
  const fill = (): void => {
    if (table.hidden || !latest) return;
    if (head.children.length !== latest.headers.length) {
      head.replaceChildren(...latest.headers.map((text) => h('th', { scope: 'col' }, text)));
    }
    fillRows(rowsOf, latest.rows());
  };
  toggle.addEventListener('click', () => {
    table.hidden = !table.hidden;
    figure.hidden = !table.hidden;
    setAttribute(toggle, 'aria-pressed', String(!table.hidden));
    setText(toggle, table.hidden ? 'Table' : 'Chart');
    fill();
  });
  base.tools.append(toggle);
  base.body.append(figure, table);
  return {
    ...base,
    canvas,
    describe: (summary, headers, rows) => {
      setAttribute(figure, 'aria-label', summary);
      latest = { headers, rows };
      fill();
    },
  };
}

/** Rows by key, updated in place so that the focus and the reader's place stay. */
export function fillRows(body: Element, rows: readonly Row[]): void {
  reconcile(
    body,
    rows,
    (row) => row.key,
    (row) => {
      const line = h('tr');
      row.cells.forEach((_, i) => {
        line.append(i === 0 ? h('th', { scope: 'row' }) : h('td'));
      });
      if (row.onPick)
        line.firstElementChild?.append(h('button', { type: 'button', class: 'link' }));
      return line;
    },
    (line, row) => {
      row.cells.forEach((text, i) => {
        const cell = line.children[i];
        const button = i === 0 && row.onPick ? cell?.querySelector('button') : undefined;
        if (button && row.onPick) {
          button.onclick = row.onPick;
          setText(button, text);
        } else if (cell) {
          setText(cell, text);
        }
      });
    },
  );
}
