/** What the API sends. `api/routes/live*.py` and `herald/live/` define it; this mirrors it. */

export type Audience = 'human' | 'machine' | 'all';
export type Unit = 'count' | 'ratio' | 'currency';

export interface Kpi {
  name: string;
  label: string;
  unit: Unit;
  value: number | null;
  /** The same window a week earlier; null when there is nothing to compare with. */
  previous: number | null;
  /** One value a slot; null where it has none, or cannot be known for so short a time. */
  spark: (number | null)[];
  lower_is_better: boolean;
}

export interface FunnelStage {
  stage: string;
  value: number;
}

export interface Rates {
  /** Start of each bucket, ISO UTC. */
  buckets: string[];
  /** Events a second for each bucket. */
  by_channel: Record<string, number[]>;
  by_provider: Record<string, number[]>;
}

export interface CountryRow {
  country: string;
  sent: number;
  delivered: number;
  opened: number;
  clicked: number;
}

export interface DeviceRow {
  platform: string;
  sent: number;
  opened: number;
  clicked: number;
}

export interface Performance {
  tenant_id?: string;
  campaign_id?: string;
  campaign_name?: string | null;
  variant_id?: string;
  sent: number;
  delivered: number;
  opened: number;
  clicked: number;
  converted: number;
  bounced: number;
  aborted: number;
  delivery_rate: number | null;
  open_rate: number | null;
  click_rate: number | null;
  bounce_rate: number | null;
}

export interface TenantRow {
  tenant: string;
  sent: number;
  events: number;
}

export interface Alert {
  alert_id: string;
  tenant_id: string;
  rule: string;
  severity: 'info' | 'warning' | 'critical';
  status: 'firing' | 'acknowledged' | 'resolved';
  summary: string;
  opened_at: string;
  updated_at?: string;
  value?: number | null;
  threshold?: number | null;
  runbook?: string | null;
  owner?: string | null;
  acknowledged_by?: string | null;
  silenced_until?: string | null;
}

export interface Snapshot {
  type: 'snapshot';
  schema: number;
  sequence: number;
  /** Newest landing time seen; null when nothing has landed. */
  as_of: string | null;
  sent_at: string;
  tenant: string;
  filters: Record<string, string | null>;
  window_minutes: number;
  stale_seconds: number | null;
  /** Why the figures stand still, while the warehouse does not answer. */
  problem: string | null;
  kpis: Kpi[];
  funnel: FunnelStage[];
  rates: Rates;
  countries: CountryRow[];
  /** [day, 0 is Monday; hour; value] */
  hours: [number, number, number][];
  devices: DeviceRow[];
  campaigns: Performance[];
  variants: Performance[];
  /** Filled while every tenant is shown together. */
  tenants: TenantRow[];
  alerts: Alert[];
}

export interface ErrorMessage {
  type: 'error';
  message: string;
  code?: string;
}

export interface Pong {
  type: 'pong';
}

export type ServerMessage = Snapshot | ErrorMessage | Pong;

/** Parse one message; undefined for what this page does not know. */
export function parseMessage(text: string): ServerMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const type = (value as { type?: unknown }).type;
  if (type === 'snapshot' || type === 'error' || type === 'pong') return value as ServerMessage;
  return undefined;
}
