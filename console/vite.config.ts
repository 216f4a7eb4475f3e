import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// The result is embedded by server/console: relative addresses, so that it works below any path, and
// nothing inline, which the page's policy would refuse.
export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    outDir: '../server/console/dist',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
