/**
 * World map as a module, made while building: countries by ISO 3166 alpha-2 code, already projected
 * (Equal Earth), simplified and rounded, so that the browser needs no projection and no topology.
 *
 * Sources: npm `world-atlas` (Natural Earth, public domain) and `i18n-iso-countries` (codes).
 */
import { createRequire } from 'node:module';
import { type GeoProjection, geoEqualEarth } from 'd3-geo';
import { geoProject } from 'd3-geo-projection';
import type { Feature, FeatureCollection, MultiPolygon, Polygon } from 'geojson';
import { feature } from 'topojson-client';
import { presimplify, simplify, sphericalTriangleArea } from 'topojson-simplify';
import type { GeometryCollection, Topology } from 'topojson-specification';
import type { Plugin } from 'vite';

type Atlas = Topology<{ countries: GeometryCollection<{ name: string }> }>;

const ID = 'virtual:world';
const WIDTH = 1000;
/** Islands smaller than this are left out of their country. */
const SPECK = 4;
/** Nobody sends to Antarctica, and it takes a fifth of the picture. */
const LEFT_OUT = new Set(['AQ']);
/** Natural Earth gives these no ISO number. */
const BY_NAME: Record<string, string> = { Kosovo: 'XK' };
/** Triangles smaller than this share of the globe lose their corner (steradians). */
const SMALLEST = 2e-5;

export type World = FeatureCollection<Polygon | MultiPolygon, { name: string }>;

function alpha2ByNumber(): Map<string, string> {
  const require = createRequire(import.meta.url);
  const codes: [string, string, string, string][] = require('i18n-iso-countries/codes.json');
  return new Map(codes.map(([alpha2, , numeric]) => [numeric, alpha2]));
}

/** Build the collection; features are named by alpha-2 code. */
export function buildWorld(): World {
  const require = createRequire(import.meta.url);
  const topology: Atlas = require('world-atlas/countries-50m.json');
  const codes = alpha2ByNumber();
  const light: Atlas = simplify(presimplify(topology, sphericalTriangleArea), SMALLEST);
  const countries = feature(light, light.objects.countries);
  const projection: GeoProjection = geoEqualEarth()
    .rotate([-11, 0])
    .precision(0)
    .fitWidth(WIDTH, { type: 'Sphere' });
  const features: World['features'] = [];
  for (const country of countries.features) {
    const name = BY_NAME[String(country.properties.name)];
    const code = codes.get(String(country.id ?? '').padStart(3, '0')) ?? name;
    if (!code || LEFT_OUT.has(code)) continue;
    const shape = project(country, projection);
    if (shape) features.push({ type: 'Feature', properties: { name: code }, geometry: shape });
  }
  return { type: 'FeatureCollection', features };
}

function project(country: Feature, by: GeoProjection) {
  const projected = geoProject(country, by) as Feature<Polygon | MultiPolygon> | null;
  const geometry = projected?.geometry;
  if (!geometry) return undefined;
  const polygons = geometry.type === 'Polygon' ? [geometry.coordinates] : geometry.coordinates;
  const kept = polygons
    .map((rings) => rings.map(rounded).filter((ring) => ring.length > 3))
    .filter((rings) => rings.length > 0);
  // a speck is worth its points only where it is all there is of a country
  const largest = Math.max(...kept.map(extent));
  const seen = kept.filter((rings) => extent(rings) >= Math.min(SPECK, largest));
  return seen.length ? ({ type: 'MultiPolygon', coordinates: seen } as MultiPolygon) : undefined;
}

/** The longer side of what a polygon covers. */
function extent(rings: number[][][]): number {
  const outer = rings[0] ?? [];
  const side = (axis: 0 | 1): number => {
    const values = outer.map((point) => point[axis] ?? 0);
    return Math.max(...values) - Math.min(...values);
  };
  return Math.max(side(0), side(1));
}

/** A ring in tenths of a unit, y upwards as charts of maps expect, without repeated points. */
function rounded(ring: number[][]): number[][] {
  const points: number[][] = [];
  for (const [x = 0, y = 0] of ring) {
    const point = [Math.round(x * 10) / 10, -Math.round(y * 10) / 10];
    const last = points.at(-1);
    if (!last || last[0] !== point[0] || last[1] !== point[1]) points.push(point);
  }
  return points;
}

/** Vite plugin that answers `import world from 'virtual:world'`. */
export function worldMap(): Plugin {
  return {
    name: 'herald-world-map',
    resolveId: (id) => (id === ID ? `\0${ID}` : undefined),
    load: (id) =>
      id === `\0${ID}`
        ? `export default JSON.parse(${JSON.stringify(JSON.stringify(buildWorld()))})`
        : undefined,
  };
}
