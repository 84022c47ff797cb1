import { expect, test } from 'vitest';
import { countryName, delta, duration, label, percent, rate, short } from '../src/format';

test('counts are whole below a hundred thousand and short above', () => {
  expect([12_345, 340_242, 1_234_567, null].map(short)).toEqual([
    '12,345',
    '340.2K',
    '1.235M',
    '–',
  ]);
});

test('small ratios keep the digits that matter', () => {
  expect([0.9612, 0.003, 0.00031, 0, null].map(percent)).toEqual([
    '96.1%',
    '0.3%',
    '0.03%',
    '0.0%',
    '–',
  ]);
});

test('slow rates have a decimal', () => {
  expect([0, 0.4, 2_604.3, 51_000].map(rate)).toEqual(['0/s', '0.4/s', '2,604/s', '51,000/s']);
});

test.each([
  ['deliveries', 'count', 120, 100, '+20%', 'good'],
  ['bounce_rate', 'ratio', 0.02, 0.01, '+1.0 pp', 'bad'],
  ['spam_rate', 'ratio', 0.001, 0.003, '−0.20 pp', 'good'],
  ['sends', 'count', 50, 100, '−50%', 'neutral'],
  ['clicks', 'count', 100, 100, '±0%', 'neutral'],
  ['opens', 'count', 5_000, 100, '×50', 'good'],
] as const)('change of %s from a week ago', (name, unit, value, previous, text, tone) => {
  const lower_is_better = /bounce|spam/.test(name);
  expect(delta({ name, unit, value, previous, lower_is_better })).toEqual({ text, tone });
});

test('no change is claimed without a figure to compare with', () => {
  const sends = { name: 'sends', unit: 'count', value: 5, lower_is_better: false } as const;
  expect(delta({ ...sends, previous: null })).toBeUndefined();
  expect(delta({ ...sends, previous: 0 })).toBeUndefined();
});

test('durations are said as people say them', () => {
  expect([0.94, 48, 240, 7_200, 259_200].map(duration)).toEqual([
    '0.9 s',
    '48 s',
    '4 min',
    '2 h',
    '3 d',
  ]);
});

test('codes have names, unknown ones stay readable', () => {
  expect(countryName('DE')).toBe('Germany');
  expect(countryName('')).toBe('Unknown');
  expect(label('in_app')).toBe('In-app');
  expect(label('smoke_signal')).toBe('Smoke signal');
});
