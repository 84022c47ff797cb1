/** Campaigns (or the variants of one): sorted by any column, or those that fail first. */
import { h, reconcile, segmented, setAttribute, setText } from '../dom';
import { count, percent, short } from '../format';
import { type Actions, frame, type Panel, type View } from '../panel';
import type { Performance, TenantRow } from '../protocol';

export type Column =
  | 'name'
  | 'sent'
  | 'delivery_rate'
  | 'open_rate'
  | 'click_rate'
  | 'converted'
  | 'bounce_rate'
  | 'aborted'
  | 'failing';

export interface Sorting {
  column: Column;
  descending: boolean;
}

/** Fewer attempts than this say nothing about failing. */
export const FEWEST = 50;

const COLUMNS: { column: Column; text: string; hint?: string }[] = [
  { column: 'name', text: 'Campaign' },
  { column: 'sent', text: 'Sent' },
  { column: 'delivery_rate', text: 'Delivered' },
  { column: 'open_rate', text: 'Opened' },
  { column: 'click_rate', text: 'Clicked' },
  { column: 'converted', text: 'Converted' },
  { column: 'bounce_rate', text: 'Bounced' },
  { column: 'aborted', text: 'Aborted' },
  { column: 'failing', text: 'Failing', hint: 'bounced or aborted, of all that were tried' },
];

type Level = 'tenant' | 'campaign' | 'variant';
const TITLES: Record<Level, string> = {
  tenant: 'Tenants',
  campaign: 'Campaigns',
  variant: 'Variants',
};

/** What the rows are: the next level down from the filters. */
export function levelOf({ filters, snapshot }: View): Level {
  if (filters.campaign) return 'variant';
  return !filters.tenant && snapshot.tenants.length > 1 ? 'tenant' : 'campaign';
}

function rowsOf(level: Level, { snapshot }: View): Performance[] {
  if (level === 'tenant') return snapshot.tenants.map(tenantRow);
  return level === 'variant' ? snapshot.variants : snapshot.campaigns;
}

/** What is known of a tenant, as a row of the table. */
function tenantRow({ tenant, sent }: TenantRow): Performance {
  const unknown = { delivery_rate: null, open_rate: null, click_rate: null, bounce_rate: null };
  const uncounted = { delivered: 0, opened: 0, clicked: 0, converted: 0, bounced: 0, aborted: 0 };
  return { tenant_id: tenant, sent, ...uncounted, ...unknown };
}

export function nameOf(row: Performance): string {
  return row.campaign_name || idOf(row) || 'Without a campaign';
}

export function idOf(row: Performance): string {
  return row.variant_id ?? row.campaign_id ?? row.tenant_id ?? '';
}

/** Share of messages that never arrived: bounced or aborted, of sent and aborted. */
export function failing(row: Performance): number | null {
  const tried = row.sent + row.aborted;
  return tried < FEWEST ? null : (row.bounced + row.aborted) / tried;
}

function value(row: Performance, column: Column): number | string | null {
  if (column === 'name') return nameOf(row).toLowerCase();
  if (column === 'failing') return failing(row);
  return row[column];
}

/** Sorted copy; unknown values last whichever way; equal ones by id, so that rows do not dance. */
export function sorted(rows: readonly Performance[], by: Sorting): Performance[] {
  return [...rows].sort((a, b) => {
    const left = value(a, by.column);
    const right = value(b, by.column);
    if (left === null && right !== null) return 1;
    if (right === null && left !== null) return -1;
    if (left !== null && right !== null && left !== right) {
      const order = left < right ? -1 : 1;
      return by.descending ? -order : order;
    }
    return idOf(a).localeCompare(idOf(b));
  });
}

export function campaignsPanel(actions: Actions): Panel {
  const { element, body, caption, tools } = frame('campaigns', 'Campaigns');
  const heading = element.querySelector('h2') as HTMLElement;
  let sorting: Sorting = { column: 'sent', descending: true };
  let latest: View | undefined;
  let heldOrder: string[] | undefined;

  const preset = segmented(
    'Order of campaigns',
    [
      { value: 'sent', text: 'Top' },
      { value: 'failing', text: 'Failing' },
    ],
    (column) => sort({ column: column as Column, descending: true }),
  );
  preset.set('sent');
  tools.append(preset.element);

  const heads = COLUMNS.map(({ column, text, hint }) => {
    const button = h('button', { type: 'button', class: 'sort', title: hint ?? null }, text);
    const cell = h('th', { scope: 'col' }, button);
    button.addEventListener('click', () => {
      const again = sorting.column === column;
      sort({ column, descending: again ? !sorting.descending : column !== 'name' });
    });
    return { column, cell, button };
  });
  const rows = h('tbody');
  const empty = h('p', { class: 'empty', hidden: true });
  const table = h(
    'table',
    { class: 'figures campaigns' },
    h('thead', {}, h('tr', {}, ...heads.map((one) => one.cell))),
    rows,
  );
  const scroller = h(
    'div',
    { class: 'scroller', tabindex: 0, role: 'region', 'aria-label': 'Campaigns, table' },
    table,
    empty,
  );
  body.append(scroller);

  // rows must not move from under a pointer or a reader's place
  const hold = (): void => {
    heldOrder ??= Array.from(rows.children, (row) => (row as HTMLElement).dataset.key ?? '');
  };
  const release = (): void => {
    if (rows.matches(':hover') || rows.contains(document.activeElement)) return;
    heldOrder = undefined;
    if (latest) update(latest);
  };
  rows.addEventListener('pointerenter', hold);
  rows.addEventListener('pointerleave', () => setTimeout(release, 0));
  rows.addEventListener('focusin', hold);
  rows.addEventListener('focusout', () => setTimeout(release, 0));

  function sort(by: Sorting): void {
    sorting = by;
    heldOrder = undefined;
    preset.set(by.descending ? by.column : '');
    if (latest) update(latest);
  }

  function update(view: View): void {
    latest = view;
    const level = levelOf(view);
    const given = rowsOf(level, view);
    const title = TITLES[level];
    setText(heading, title);
    setAttribute(table, 'data-level', level);
    setAttribute(scroller, 'aria-label', `${title}, table`);
    setText(heads[0]?.button as Element, title.slice(0, -1));
    for (const { column, cell } of heads) {
      const on = column === sorting.column;
      setAttribute(
        cell,
        'aria-sort',
        on ? (sorting.descending ? 'descending' : 'ascending') : null,
      );
    }
    let ordered = sorted(given, sorting);
    if (heldOrder) {
      const place = new Map(heldOrder.map((id, i) => [id, i]));
      ordered = ordered
        .map((row, i) => ({ row, at: place.get(idOf(row)) ?? heldOrder?.length ?? i }))
        .sort((a, b) => a.at - b.at)
        .map(({ row }) => row);
    }
    caption(
      sorting.column === 'failing'
        ? `bounced or aborted, of all that were tried; ${FEWEST} or more tried`
        : `${given.length === 50 ? 'the 50 biggest' : count(given.length)} of this window, click for details`,
    );
    empty.hidden = ordered.length > 0;
    setText(empty, `No ${level} has sent anything in this window.`);
    reconcile(rows, ordered, idOf, create, (line, row) => fill(line, row, view, level));
  }

  function create(): Element {
    const line = h(
      'tr',
      {},
      h('th', { scope: 'row' }, h('button', { type: 'button', class: 'link' })),
    );
    for (let i = 1; i < COLUMNS.length; i += 1) line.append(h('td'));
    return line;
  }

  function fill(line: Element, row: Performance, view: View, level: Level): void {
    const button = line.querySelector('button') as HTMLButtonElement;
    setText(button, nameOf(row));
    const id = idOf(row);
    button.onclick = () => actions.drill(level, id);
    button.disabled = !id;
    setAttribute(line, 'aria-current', id !== '' && id === view.filters[level] ? 'true' : null);
    const share = failing(row);
    const cells = [
      short(row.sent),
      percent(row.delivery_rate),
      percent(row.open_rate),
      percent(row.click_rate),
      short(row.converted),
      percent(row.bounce_rate),
      short(row.aborted),
      percent(share),
    ];
    cells.forEach((text, i) => {
      setText(line.children[i + 1] as Element, text);
    });
    setAttribute(line.lastElementChild as Element, 'data-level', failureLevel(share));
  }

  return { id: 'campaigns', title: 'Campaigns', element, update };
}

/** From a twentieth on worth a look, from a fifth on broken. */
export function failureLevel(share: number | null): 'bad' | 'worn' | null {
  if (share === null || share < 0.05) return null;
  return share < 0.2 ? 'worn' : 'bad';
}
