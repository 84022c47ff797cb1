/** What fires now, most severe first. New ones are announced; one click acknowledges. */
import { h, reconcile, setAttribute, setText, svg } from '../dom';
import { clock, duration, label } from '../format';
import { type Actions, frame, type Panel } from '../panel';
import type { Alert } from '../protocol';

const SEVERITIES: Alert['severity'][] = ['critical', 'warning', 'info'];

/** Firing before acknowledged, then severity, then the newest. */
export function ordered(alerts: readonly Alert[]): Alert[] {
  const rank = (alert: Alert): number =>
    (alert.status === 'firing' ? 0 : SEVERITIES.length) + SEVERITIES.indexOf(alert.severity);
  return [...alerts]
    .filter((alert) => alert.status !== 'resolved')
    .sort((a, b) => rank(a) - rank(b) || b.opened_at.localeCompare(a.opened_at));
}

const SIGNS: Record<Alert['severity'], string> = {
  critical: 'M8 1.5 15 14H1Z M8 6v4 M8 12v.2',
  warning: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13 M8 4.5v4.2 M8 11.2v.2',
  info: 'M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13 M8 7.2v4.3 M8 4.6v.2',
};

function create(): Element {
  return h(
    'li',
    { class: 'alert' },
    svg('svg', { class: 'alert-sign', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path')),
    h(
      'div',
      { class: 'alert-text' },
      h('p', { class: 'alert-summary' }),
      h(
        'p',
        { class: 'alert-about' },
        h('b'),
        h('span'),
        h('a', { class: 'link', hidden: true }, 'Runbook'),
      ),
    ),
    h('button', { type: 'button', class: 'small' }, 'Acknowledge'),
  );
}

/** Links go to pages only: a rule's file could say anything. */
export function safeLink(runbook: string | null | undefined): string | undefined {
  return runbook && /^(https?:\/\/|\/(?!\/))/.test(runbook) ? runbook : undefined;
}

export function alertsPanel(actions: Actions): Panel {
  const { element, body, caption } = frame('alerts', 'Alerts');
  const list = h('ul', { class: 'alerts' });
  const empty = h('p', { class: 'empty calm' }, 'Nothing is firing.');
  const failure = h('p', { class: 'failure', role: 'alert', hidden: true });
  body.append(failure, h('div', { class: 'scroller' }, list, empty));
  const pending = new Set<string>();
  let announced: Set<string> | undefined;

  async function acknowledge(alert: Alert, button: HTMLButtonElement): Promise<void> {
    pending.add(alert.alert_id);
    button.disabled = true;
    failure.hidden = true;
    try {
      await actions.acknowledge(alert);
      actions.announce(`Acknowledged: ${alert.summary}`);
    } catch (error) {
      failure.hidden = false;
      setText(
        failure,
        `Not acknowledged: ${error instanceof Error ? error.message : String(error)}`,
      );
    } finally {
      pending.delete(alert.alert_id);
      button.disabled = false;
    }
  }

  function fill(item: Element, alert: Alert, now: number): void {
    setAttribute(item, 'data-severity', alert.severity);
    setAttribute(item, 'data-status', alert.status);
    item.querySelector('path')?.setAttribute('d', SIGNS[alert.severity] ?? SIGNS.info);
    setText(item.querySelector('.alert-summary') as Element, alert.summary);
    setText(item.querySelector('b') as Element, label(alert.severity));
    const since = duration((now - Date.parse(alert.opened_at)) / 1000);
    const about = [`since ${clock(alert.opened_at, false)} (${since})`];
    if (alert.owner) about.push(alert.owner);
    if (alert.status === 'acknowledged')
      about.push(`acknowledged by ${alert.acknowledged_by || 'somebody'}`);
    const target = safeLink(alert.runbook);
    if (alert.runbook && !target)
      about.push(`runbook ${alert.runbook.replace(/^.*\/|\.md$/g, '')}`);
    if (alert.silenced_until) about.push(`silenced until ${clock(alert.silenced_until, false)}`);
    setText(item.querySelector('.alert-about span') as Element, about.join(' · '));
    const link = item.querySelector('a') as HTMLAnchorElement;
    link.hidden = !target;
    if (target) setAttribute(link, 'href', target);
    const button = item.querySelector('button') as HTMLButtonElement;
    button.hidden = alert.status !== 'firing';
    button.disabled = pending.has(alert.alert_id);
    setAttribute(button, 'aria-label', `Acknowledge: ${alert.summary}`);
    button.onclick = () => void acknowledge(alert, button);
  }

  return {
    id: 'alerts',
    title: 'Alerts',
    element,
    update: ({ snapshot }) => {
      const alerts = ordered(snapshot.alerts);
      const firing = alerts.filter((alert) => alert.status === 'firing');
      const now = Date.parse(snapshot.sent_at);
      caption(
        alerts.length
          ? `${firing.length} firing, ${alerts.length - firing.length} acknowledged`
          : 'rules look at every batch',
      );
      empty.hidden = alerts.length > 0;
      setAttribute(element, 'data-firing', firing.length ? String(firing.length) : null);
      reconcile(
        list,
        alerts,
        (alert) => alert.alert_id,
        create,
        (item, alert) => fill(item, alert, now),
      );
      // what fires when the page opens is read with the page; what comes later is announced
      for (const alert of announced ? firing : []) {
        if (!announced?.has(alert.alert_id)) {
          actions.announce(
            `${label(alert.severity)} alert: ${alert.summary}`,
            alert.severity === 'critical',
          );
        }
      }
      announced = new Set(firing.map((alert) => alert.alert_id));
    },
  };
}
