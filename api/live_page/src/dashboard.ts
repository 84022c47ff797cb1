/** Puts the page together: address, connection, header, panels. */
import { Connection, type Socket, type State } from './connection';
import { h, setAttribute, setText } from './dom';
import { drill, type Filters, fromQuery, sameFilters, toQuery } from './filters';
import { type Freshness, freshness, type Seen } from './freshness';
import { Header } from './header';
import { Layout } from './layout';
import type { Actions, Panel } from './panel';
import { alertsPanel } from './panels/alerts';
import { campaignsPanel } from './panels/campaigns';
import { devicesPanel } from './panels/devices';
import { funnelPanel } from './panels/funnel';
import { hoursPanel } from './panels/hours';
import { kpisPanel } from './panels/kpis';
import { mapPanel } from './panels/map';
import { ratesPanel } from './panels/rates';
import type { Snapshot } from './protocol';
import { acknowledgeAlert, ticket } from './session';

export interface DashboardParts {
  onSignedOut(): void;
  signOut(): Promise<void>;
}

export class Dashboard {
  readonly element: HTMLElement;
  private filters: Filters = fromQuery(location.search);
  private state: State = { kind: 'connecting' };
  private seen: Seen | undefined;
  private dirty = false;
  private readonly polite = h('p', { class: 'unseen', 'aria-live': 'polite' });
  private readonly urgent = h('p', { class: 'unseen', 'aria-live': 'assertive' });
  private readonly refusal = h('p', { class: 'failure', role: 'alert', hidden: true });
  private readonly header: Header;
  private readonly layout: Layout;
  private readonly panels: Panel[];
  private readonly connection: Connection;
  private readonly main: HTMLElement;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(private readonly parts: DashboardParts) {
    const actions: Actions = {
      drill: (level, value) => this.setFilters(drill(this.filters, level, value)),
      acknowledge: (alert) => acknowledgeAlert(alert.alert_id),
      announce: (text, urgent) => setText(urgent ? this.urgent : this.polite, text),
    };
    this.panels = [
      kpisPanel(),
      funnelPanel(),
      alertsPanel(actions),
      campaignsPanel(actions),
      devicesPanel(),
      ratesPanel('channel'),
      ratesPanel('provider'),
      mapPanel(actions),
      hoursPanel(),
    ];
    this.layout = new Layout(this.panels, (text) => actions.announce(text));
    this.header = new Header({
      filter: (filters) => this.setFilters(filters),
      arrange: (on) => this.layout.arrange(on),
      reset: () => this.layout.reset(),
      signOut: () => void this.leave(),
      retry: () => this.connection.retryNow(),
    });
    this.main = h('main', { id: 'main', tabindex: -1 }, this.refusal, this.layout.element);
    this.element = h(
      'div',
      { class: 'page' },
      h('a', { class: 'skip', href: '#main' }, 'Skip to the figures'),
      this.header.element,
      this.main,
      h(
        'footer',
        { class: 'foot' },
        'Counts are exact and settle as late events arrive; unique ones are estimates, to about 1%. Times are on your clock unless they say UTC.',
      ),
      this.polite,
      this.urgent,
    );
    this.connection = new Connection(this.filters, {
      ticket,
      open: (path) => new WebSocket(path) as unknown as Socket,
      onSnapshot: (snapshot, receivedAt) => this.onSnapshot(snapshot, receivedAt),
      onState: (state) => this.onState(state),
      onRefusal: (message) => this.refuse(message),
      now: () => performance.now(),
      random: Math.random,
    });
    window.addEventListener('popstate', this.onAddress);
    window.addEventListener('online', this.onOnline);
    document.addEventListener('visibilitychange', this.onVisible);
    // the age of the data grows between two snapshots, and without any
    this.timer = setInterval(() => this.showFreshness(), 500);
  }

  /** Start, once the element is in the page. */
  start(): void {
    this.layout.build();
    this.header.show(this.filters, undefined);
    this.showFreshness();
    this.connection.start();
  }

  stop(): void {
    clearInterval(this.timer);
    window.removeEventListener('popstate', this.onAddress);
    window.removeEventListener('online', this.onOnline);
    document.removeEventListener('visibilitychange', this.onVisible);
    this.connection.stop();
  }

  private readonly onAddress = (): void => this.apply(fromQuery(location.search));
  private readonly onOnline = (): void => this.connection.retryNow();
  private readonly onVisible = (): void => {
    if (document.hidden) return;
    this.connection.retryNow();
    if (this.dirty) this.draw();
  };

  private setFilters(filters: Filters): void {
    if (sameFilters(filters, this.filters)) return;
    const query = toQuery(filters);
    history.pushState(null, '', query ? `?${query}` : location.pathname);
    this.apply(filters);
  }

  private apply(filters: Filters): void {
    this.filters = filters;
    this.refusal.hidden = true;
    this.header.show(filters, this.seen?.snapshot);
    this.connection.setFilters(filters);
    this.showFreshness();
  }

  private onSnapshot(snapshot: Snapshot, receivedAt: number): void {
    this.seen = { snapshot, receivedAt };
    this.dirty = true;
    if (answers(snapshot, this.filters)) this.refusal.hidden = true;
    // a hidden page draws nothing; it catches up when it is looked at
    if (!document.hidden) this.draw();
  }

  private draw(): void {
    if (!this.seen) return;
    this.dirty = false;
    const { snapshot } = this.seen;
    this.header.show(this.filters, snapshot);
    this.showFreshness();
    // figures of the filters before would be read as those of the new ones
    if (!answers(snapshot, this.filters)) return;
    for (const panel of this.panels) panel.update({ snapshot, filters: this.filters });
    setAttribute(this.main, 'data-sequence', snapshot.sequence);
    const firing = snapshot.alerts.filter((alert) => alert.status === 'firing').length;
    document.title = `${firing ? `(${firing}) ` : ''}${snapshot.tenant || 'All tenants'} · Live · Herald`;
  }

  private onState(state: State): void {
    this.state = state;
    if (state.kind === 'signed-out') this.parts.onSignedOut();
    this.showFreshness();
  }

  private showFreshness(): void {
    const now = performance.now();
    let shown: Freshness = freshness(this.state, this.seen, now);
    const waiting = this.seen !== undefined && !answers(this.seen.snapshot, this.filters);
    if (waiting && shown.current) {
      shown = {
        tone: 'waiting',
        title: 'Loading',
        detail: 'Asking for these filters',
        current: false,
      };
    }
    this.header.showFreshness(shown);
    setAttribute(this.main, 'data-current', String(shown.current));
    setAttribute(this.main, 'aria-busy', String(waiting || !this.seen));
  }

  private refuse(message: string): void {
    this.refusal.hidden = false;
    setText(this.refusal, message);
  }

  private async leave(): Promise<void> {
    try {
      await this.parts.signOut();
    } catch (error) {
      this.refuse(`Not signed out: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Whether a snapshot answers the filters that are set. */
export function answers(snapshot: Snapshot, filters: Filters): boolean {
  const given = snapshot.filters;
  const same = (['campaign', 'variant', 'channel', 'country'] as const).every(
    (key) => (given[key] ?? '') === filters[key],
  );
  return (
    same &&
    (snapshot.tenant ?? '') === filters.tenant &&
    snapshot.window_minutes === filters.window &&
    (given.audience ?? 'all') === filters.audience
  );
}
