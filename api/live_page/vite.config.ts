import { defineConfig } from 'vitest/config';
import { worldMap } from './build/world.ts';

// `npm run dev` forwards to a running API: LIVE_PAGE_API=http://127.0.0.1:8593
const api = process.env.LIVE_PAGE_API ?? 'http://127.0.0.1:8593';

export default defineConfig({
  base: '/live/',
  plugins: [worldMap()],
  build: {
    outDir: process.env.LIVE_PAGE_OUT ?? '../../var/web/live',
    emptyOutDir: true,
    target: 'es2022',
    // the policy of the page allows no data: addresses for scripts, styles and fonts
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { '/v1': { target: api, ws: true } } },
  test: { environment: 'happy-dom', include: ['tests/**/*.test.ts'] },
});
