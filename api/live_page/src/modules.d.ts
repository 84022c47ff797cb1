declare module 'virtual:world' {
  const world: import('../build/world.ts').World;
  export default world;
}
declare module 'd3-geo-projection' {
  import type { GeoProjection, GeoStreamWrapper } from 'd3-geo';
  import type { GeoJsonObject } from 'geojson';
  export function geoProject(
    object: GeoJsonObject,
    projection: GeoProjection | GeoStreamWrapper,
  ): GeoJsonObject | null;
}
