/** Where the panels are. The user moves and sizes them, by pointer or keys; the browser keeps it. */
import 'gridstack/dist/gridstack.min.css';
import { GridStack, type GridStackNode } from 'gridstack';
import { h, setAttribute } from './dom';
import type { Panel } from './panel';

export interface Place {
  id: string;
  x: number;
  y: number;
  w: number;
  h: number;
}

export const COLUMNS = 12;
const TALLEST = 20;
const KEY = 'herald.live.layout.2';
const WIDE = window.matchMedia('(min-width: 900px)');

export const DEFAULT_LAYOUT: readonly Place[] = [
  { id: 'kpis', x: 0, y: 0, w: 12, h: 4 },
  { id: 'funnel', x: 0, y: 4, w: 8, h: 4 },
  { id: 'alerts', x: 8, y: 4, w: 4, h: 5 },
  { id: 'campaigns', x: 0, y: 8, w: 8, h: 6 },
  { id: 'devices', x: 8, y: 9, w: 4, h: 5 },
  { id: 'rate-channel', x: 0, y: 14, w: 6, h: 5 },
  { id: 'rate-provider', x: 6, y: 14, w: 6, h: 5 },
  { id: 'map', x: 0, y: 19, w: 7, h: 7 },
  { id: 'hours', x: 7, y: 19, w: 5, h: 7 },
];

/** A stored layout, or undefined when it is not one for exactly these panels. */
export function readLayout(text: string | null): Place[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
  if (!Array.isArray(value) || value.length !== DEFAULT_LAYOUT.length) return undefined;
  const places = value as Place[];
  const ids = new Set(places.map((place) => place?.id));
  const known = DEFAULT_LAYOUT.every(({ id }) => ids.has(id));
  return known && places.every(isPlace) ? places : undefined;
}

function isPlace({ x, y, w, h: height }: Place): boolean {
  const numbers = [x, y, w, height].every((value) => Number.isInteger(value) && value >= 0);
  return numbers && w >= 1 && height >= 1 && height <= TALLEST && x + w <= COLUMNS;
}

/** From the top left to the bottom right: the order of reading and of the focus. */
export function readingOrder(places: readonly Place[]): Place[] {
  return [...places].sort((a, b) => a.y - b.y || a.x - b.x);
}

type Move = Partial<Pick<Place, 'x' | 'y' | 'w' | 'h'>>;

/** What an arrow key does to a place; with shift it sizes. Undefined where it cannot go further. */
export function keyMove(key: string, shift: boolean, at: Place): Move | undefined {
  const across = key === 'ArrowRight' ? 1 : key === 'ArrowLeft' ? -1 : 0;
  const down = key === 'ArrowDown' ? 1 : key === 'ArrowUp' ? -1 : 0;
  if (shift) {
    const w = at.w + across;
    const height = at.h + down;
    if (across && w >= 2 && at.x + w <= COLUMNS) return { w };
    if (down && height >= 2 && height <= TALLEST) return { h: height };
    return undefined;
  }
  const x = at.x + across;
  const y = at.y + down;
  if (across && x >= 0 && x + at.w <= COLUMNS) return { x };
  if (down && y >= 0) return { y };
  return undefined;
}

export class Layout {
  readonly element = h('div', { class: 'grid-stack panels' });
  private grid: GridStack | null = null;
  private readonly items = new Map<string, HTMLElement>();
  private arranging = false;

  constructor(
    panels: readonly Panel[],
    private readonly announce: (text: string) => void,
  ) {
    for (const panel of panels) {
      const handle = h(
        'button',
        {
          type: 'button',
          class: 'handle',
          'aria-label': `Move ${panel.title}`,
          'aria-describedby': 'arrange-help',
        },
        '⠿',
      );
      handle.addEventListener('keydown', (event) => this.onKey(event, panel));
      panel.element.querySelector('.panel-head')?.prepend(handle);
      const content = h('div', { class: 'grid-stack-item-content' }, panel.element);
      this.items.set(panel.id, h('div', { class: 'grid-stack-item', 'gs-id': panel.id }, content));
    }
    WIDE.addEventListener('change', () => this.build());
  }

  /** Put the panels into the page; call once the element is in it. */
  build(): void {
    const places = readLayout(localStorage.getItem(KEY)) ?? [...DEFAULT_LAYOUT];
    this.grid?.destroy(false);
    this.grid = null;
    this.element.className = `panels ${WIDE.matches ? 'grid-stack' : 'stacked'}`;
    for (const place of readingOrder(places)) {
      const item = this.items.get(place.id);
      if (!item) continue;
      item.removeAttribute('style');
      for (const key of ['x', 'y', 'w', 'h'] as const) setAttribute(item, `gs-${key}`, place[key]);
      this.element.append(item);
    }
    // on a phone the panels are as high as they need to be, one below the other
    if (!WIDE.matches) return;
    this.grid = GridStack.init(
      {
        column: COLUMNS,
        cellHeight: 64,
        margin: 7,
        minRow: 1,
        mode: 'top',
        staticGrid: !this.arranging,
        animate: !window.matchMedia('(prefers-reduced-motion: reduce)').matches,
        draggable: { handle: '.handle, .panel-title' },
        resizable: { handles: 'e,se,s,sw,w' },
      },
      this.element,
    );
    this.grid?.on('change', () => this.save());
  }

  get isArranging(): boolean {
    return this.arranging;
  }

  arrange(on: boolean): void {
    this.arranging = on;
    this.grid?.setStatic(!on);
    this.element.classList.toggle('arranging', on);
    if (!on) this.build();
  }

  reset(): void {
    localStorage.removeItem(KEY);
    this.build();
    this.announce('The layout is as it was at first');
  }

  private save(): void {
    const nodes = (this.grid?.engine.nodes ?? []) as GridStackNode[];
    const places = nodes.map(({ id, x = 0, y = 0, w = 1, h: height = 1 }) => ({
      id: String(id),
      x,
      y,
      w,
      h: height,
    }));
    const text = JSON.stringify(readingOrder(places));
    if (readLayout(text)) localStorage.setItem(KEY, text);
  }

  private onKey(event: KeyboardEvent, panel: Panel): void {
    const item = this.items.get(panel.id);
    const node = this.grid?.engine.nodes.find((one) => one.el === item);
    if (!item || !node || !event.key.startsWith('Arrow')) return;
    event.preventDefault();
    const at = { id: panel.id, x: node.x ?? 0, y: node.y ?? 0, w: node.w ?? 1, h: node.h ?? 1 };
    const move = keyMove(event.key, event.shiftKey, at);
    if (!move) return;
    this.grid?.update(item, move);
    const now = { ...at, ...move, x: node.x ?? 0, y: node.y ?? 0 };
    this.announce(
      `${panel.title}: column ${now.x + 1}, row ${now.y + 1}, ${node.w} wide, ${node.h} high`,
    );
  }
}
