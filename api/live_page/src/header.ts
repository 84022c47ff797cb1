/** The bar at the top: state of the data, way down, filters, tools. */
import { h, reconcile, segmented, setAttribute, setText, svg } from './dom';
import { AUDIENCES, type Crumb, crumbs, type Filters, type Level, upTo, WINDOWS } from './filters';
import { countryName, label } from './format';
import type { Freshness } from './freshness';
import type { Snapshot } from './protocol';
import { choose, isDark, onThemeChange } from './theme';

export interface HeaderActions {
  filter(filters: Filters): void;
  arrange(on: boolean): void;
  reset(): void;
  signOut(): void;
  retry(): void;
}

export class Header {
  readonly element: HTMLElement;
  private filters: Filters | undefined;
  private readonly names = new Map<string, string>();
  private readonly badge = h('strong', { class: 'badge' });
  private readonly detail = h('span', { class: 'badge-detail' });
  private readonly retry = h('button', { type: 'button', class: 'small', hidden: true }, 'Try now');
  private readonly status = h('div', { class: 'freshness' }, this.badge, this.detail, this.retry);
  private readonly spoken = h('p', { class: 'unseen', role: 'status' });
  private readonly trail = h('ol');
  private readonly channel = h('select', { id: 'channel' });
  private readonly help = h('p', { class: 'arrange-help', id: 'arrange-help', hidden: true });
  private readonly audience;
  private readonly window;

  constructor(private readonly actions: HeaderActions) {
    this.audience = segmented(
      'Audience',
      AUDIENCES.map((value) => ({ value, text: label(value) })),
      (value) => this.change({ audience: value as Filters['audience'] }),
    );
    this.window = segmented(
      'Window',
      WINDOWS.map((minutes) => ({ value: String(minutes), text: `${minutes} min` })),
      (value) => this.change({ window: Number(value) }),
    );
    this.channel.addEventListener('change', () => this.change({ channel: this.channel.value }));
    this.retry.addEventListener('click', () => actions.retry());
    setText(
      this.help,
      'Drag a panel by its heading, size it at its edges. With keys: focus a handle, arrows move, shift and arrows size.',
    );
    this.element = h(
      'header',
      { class: 'top' },
      h('div', { class: 'bar' }, this.brand(), this.status, this.spoken, this.tools()),
      h(
        'div',
        { class: 'bar filters' },
        h('nav', { 'aria-label': 'Level of detail', class: 'trail' }, this.trail),
        h(
          'div',
          { class: 'controls', role: 'group', 'aria-label': 'Filters' },
          h('label', { class: 'unseen', for: 'channel' }, 'Channel'),
          this.channel,
          this.audience.element,
          this.window.element,
        ),
      ),
      this.help,
    );
  }

  private brand(): HTMLElement {
    const mark = svg('svg', { viewBox: '0 0 32 32', class: 'mark', 'aria-hidden': 'true' });
    mark.append(
      svg('rect', { width: 32, height: 32, rx: 8 }),
      svg('path', { d: 'M9 8v16M23 8v16M9 16h4l2-4 3 8 2-4h3' }),
    );
    return h(
      'h1',
      { class: 'brand' },
      mark,
      h('span', {}, 'Herald'),
      h('span', { class: 'brand-sub' }, 'Live'),
    );
  }

  private tools(): HTMLElement {
    const theme = h('button', { type: 'button', class: 'quiet' });
    const name = (): void => setText(theme, isDark() ? 'Light' : 'Dark');
    name();
    onThemeChange(name);
    setAttribute(theme, 'title', 'Change the colours');
    theme.addEventListener('click', () => choose(isDark() ? 'light' : 'dark'));

    const reset = h('button', { type: 'button', class: 'quiet', hidden: true }, 'Reset layout');
    reset.addEventListener('click', () => this.actions.reset());
    const arrange = h(
      'button',
      { type: 'button', class: 'quiet wide-only', 'aria-pressed': 'false' },
      'Arrange',
    );
    arrange.addEventListener('click', () => {
      const on = arrange.getAttribute('aria-pressed') !== 'true';
      setAttribute(arrange, 'aria-pressed', String(on));
      setText(arrange, on ? 'Done' : 'Arrange');
      reset.hidden = !on;
      this.help.hidden = !on;
      this.actions.arrange(on);
    });
    const leave = h('button', { type: 'button', class: 'quiet' }, 'Sign out');
    leave.addEventListener('click', () => this.actions.signOut());
    return h('div', { class: 'tools' }, reset, arrange, theme, leave);
  }

  private change(part: Partial<Filters>): void {
    if (this.filters) this.actions.filter({ ...this.filters, ...part });
  }

  /** Show the filters, with what the snapshot knows of their names. */
  show(filters: Filters, snapshot: Snapshot | undefined): void {
    this.filters = filters;
    for (const row of snapshot?.campaigns ?? []) {
      if (row.campaign_id && row.campaign_name) this.names.set(row.campaign_id, row.campaign_name);
    }
    this.audience.set(filters.audience);
    this.window.set(String(filters.window));
    this.showChannels(filters, snapshot);
    const path = crumbs(filters);
    reconcile(
      this.trail,
      path,
      (crumb) => crumb.level,
      () => h('li', {}, h('button', { type: 'button', class: 'crumb' })),
      (item, crumb) => {
        const button = item.firstElementChild as HTMLButtonElement;
        const last = crumb === path.at(-1);
        setText(button, this.crumbText(crumb));
        setAttribute(button, 'title', crumb.value ? `${label(crumb.level)}: ${crumb.value}` : null);
        setAttribute(button, 'aria-current', last ? 'page' : null);
        button.onclick = () => this.actions.filter(upTo(filters, crumb.level as Level));
      },
    );
  }

  private crumbText({ level, value }: Crumb): string {
    if (level === 'all') return 'All tenants';
    if (level === 'campaign') return this.names.get(value) ?? value;
    if (level === 'country') return countryName(value);
    if (level === 'variant') return `Variant ${value}`;
    return value;
  }

  private showChannels(filters: Filters, snapshot: Snapshot | undefined): void {
    const known = new Set(Array.from(this.channel.options, (option) => option.value));
    const wanted = ['', filters.channel, ...Object.keys(snapshot?.rates.by_channel ?? {}).sort()];
    for (const value of wanted) {
      if (known.has(value)) continue;
      known.add(value);
      this.channel.append(h('option', { value }, value ? label(value) : 'All channels'));
    }
    if (document.activeElement !== this.channel) this.channel.value = filters.channel;
  }

  /** Show how fresh the data is; the change of a state is spoken, the seconds are not. */
  showFreshness(state: Freshness): void {
    setAttribute(this.status, 'data-tone', state.tone);
    if (this.badge.textContent !== state.title)
      setText(this.spoken, `${state.title}. ${state.detail}`);
    setText(this.badge, state.title);
    setText(this.detail, state.detail);
    this.retry.hidden = state.title !== 'Reconnecting';
  }
}
