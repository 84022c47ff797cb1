// @vitest-environment node
import { expect, test } from 'vitest';
import { buildWorld } from '../build/world.ts';

test('the map has the countries by code, small enough to send', () => {
  const world = buildWorld();
  const codes = world.features.map((country) => country.properties.name);
  expect(new Set(codes).size).toBe(codes.length);
  for (const code of ['DE', 'US', 'BR', 'IN', 'ZA', 'JP', 'XK']) expect(codes).toContain(code);
  expect(codes).not.toContain('AQ');
  expect(JSON.stringify(world).length).toBeLessThan(160_000);
});

test('countries lie where they belong: north is up, east is right', () => {
  const middle = (code: string) => {
    const country = buildWorld().features.find((one) => one.properties.name === code);
    const points = (country?.geometry.coordinates ?? []).flat(2) as unknown as number[][];
    const mean = (axis: number) =>
      points.reduce((sum, point) => sum + (point[axis] ?? 0), 0) / points.length;
    return { x: mean(0), y: mean(1) };
  };
  expect(middle('NO').y).toBeGreaterThan(middle('ZA').y);
  expect(middle('JP').x).toBeGreaterThan(middle('BR').x);
});
