/** Platforms: their share of what was sent, and how they answer. A table is the picture. */
import { h, reconcile, setText } from '../dom';
import { count, label, percent, short } from '../format';
import { frame, type Panel } from '../panel';
import type { DeviceRow } from '../protocol';

export function devicesPanel(): Panel {
  const { element, body, caption } = frame('devices', 'Devices');
  const rows = h('tbody');
  const empty = h('p', { class: 'empty', hidden: true }, 'Nothing in this window.');
  body.append(
    h(
      'div',
      { class: 'scroller' },
      h(
        'table',
        { class: 'figures devices' },
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            h('th', { scope: 'col' }, 'Platform'),
            h('th', { scope: 'col' }, 'Share'),
            h('th', { scope: 'col' }, 'Sent'),
            h('th', { scope: 'col' }, 'Opened'),
            h('th', { scope: 'col' }, 'Clicked'),
          ),
        ),
        rows,
      ),
      empty,
    ),
  );
  return {
    id: 'devices',
    title: 'Devices',
    element,
    update: ({ snapshot }) => {
      caption('platform of the recipient; opened and clicked as shares of sent');
      const all = snapshot.devices.reduce((sum, row) => sum + row.sent, 0);
      const sorted = [...snapshot.devices].sort((a, b) => b.sent - a.sent);
      empty.hidden = sorted.length > 0;
      reconcile(
        rows,
        sorted,
        (row) => row.platform,
        () =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }),
            h(
              'td',
              { class: 'share-cell' },
              h('span', { class: 'share-bar' }),
              h('span', { class: 'share-text' }),
            ),
            h('td'),
            h('td'),
            h('td'),
          ),
        (line, row) => fill(line, row, all),
      );
    },
  };
}

function fill(line: Element, row: DeviceRow, all: number): void {
  const share = all ? row.sent / all : 0;
  const [name, , sent, opened, clicked] = Array.from(line.children) as HTMLElement[];
  const bar = line.querySelector('.share-bar') as HTMLElement;
  bar.style.setProperty('--share', String(share));
  setText(line.querySelector('.share-text') as Element, percent(share));
  if (!name || !sent || !opened || !clicked) return;
  setText(name, label(row.platform));
  setText(sent, short(row.sent));
  sent.title = count(row.sent);
  setText(opened, percent(row.sent ? row.opened / row.sent : null));
  setText(clicked, percent(row.sent ? row.clicked / row.sent : null));
}
