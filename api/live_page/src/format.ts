/** Numbers and times for people. */
import type { Kpi, Unit } from './protocol';

const LOCALE = 'en-GB';
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat(LOCALE, {
  notation: 'compact',
  maximumSignificantDigits: 4,
});
const ratio = new Intl.NumberFormat(LOCALE, {
  style: 'percent',
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});
const fineRatio = new Intl.NumberFormat(LOCALE, { style: 'percent', maximumFractionDigits: 2 });
const regions = new Intl.DisplayNames(['en'], { type: 'region', fallback: 'code' });

export const NOTHING = '–';

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NOTHING : whole.format(value);
}

/** 12,345 as it is; from a hundred thousand on shortened: 340.2K. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  return Math.abs(value) < 100_000 ? whole.format(value) : compact.format(value).toUpperCase();
}

/** Small ratios get a second digit, or a complaint rate of 0.3% would be unreadable. */
export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  return (value !== 0 && Math.abs(value) < 0.01 ? fineRatio : ratio).format(value);
}

/** Events a second. */
export function rate(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (value > 0 && value < 10) return `${value.toFixed(1)}/s`;
  return `${short(value)}/s`;
}

export function byUnit(value: number | null | undefined, unit: Unit): string {
  return unit === 'ratio' ? percent(value) : short(value);
}

/** More of these is neither: it depends on the plan. */
const NEUTRAL = /^(sends|attempts|targeted|unique_recipients)$/;

export interface Delta {
  text: string;
  tone: 'good' | 'bad' | 'neutral';
}

/** Change against the same time a week earlier; undefined when that cannot be said. */
export function delta(
  kpi: Pick<Kpi, 'name' | 'unit' | 'value' | 'previous' | 'lower_is_better'>,
): Delta | undefined {
  const { value, previous } = kpi;
  if (value === null || previous === null || value === undefined || previous === undefined) {
    return undefined;
  }
  let text: string;
  let change: number;
  if (kpi.unit === 'ratio') {
    change = (value - previous) * 100;
    const digits = Math.abs(change) < 1 ? 2 : 1;
    text = `${signed(change, digits)} pp`;
  } else {
    if (previous === 0) return undefined;
    change = (value / previous - 1) * 100;
    text = Math.abs(change) >= 1000 ? `×${short(value / previous)}` : `${signed(change, 0)}%`;
  }
  const level = Number(change.toFixed(2)) === 0;
  const better = kpi.lower_is_better ? change < 0 : change > 0;
  const tone = level || NEUTRAL.test(kpi.name) ? 'neutral' : better ? 'good' : 'bad';
  return { text, tone };
}

function signed(value: number, digits: number): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return `±${text}`;
  return (value > 0 ? '+' : '−') + text;
}

/** Seconds as people say them: 3.2 s, 48 s, 4 min, 2 h, 3 d. */
export function duration(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129_600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

/** Time of day of an instant on the reader's clock. */
export function clock(iso: string, withSeconds = true): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return NOTHING;
  return at.toLocaleTimeString(LOCALE, {
    hour: '2-digit',
    minute: '2-digit',
    ...(withSeconds ? { second: '2-digit' } : {}),
  });
}

export function countryName(code: string): string {
  if (!/^[A-Z]{2}$/.test(code)) return code || 'Unknown';
  return regions.of(code) ?? code;
}

const NAMES: Record<string, string> = {
  email: 'E-mail',
  push: 'Push',
  web_push: 'Web push',
  sms: 'SMS',
  in_app: 'In-app',
  content_card: 'Content card',
  whatsapp: 'WhatsApp',
  webhook: 'Webhook',
  ios: 'iOS',
  android: 'Android',
  web: 'Web',
  macos: 'macOS',
  windows: 'Windows',
  apns: 'APNs',
  fcm: 'FCM',
  ses: 'Amazon SES',
  sendgrid: 'SendGrid',
};

/** A code of ours as a person would write it. */
export function label(code: string): string {
  if (!code) return 'Unknown';
  const known = NAMES[code];
  if (known) return known;
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const;
