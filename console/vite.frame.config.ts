import { defineConfig } from 'vite';

// The scripts of the frame, each one file without imports. vite.config.ts takes what comes of it as a file of the page.
export default defineConfig({
  build: {
    outDir: 'build',
    target: 'es2022',
    lib: { entry: 'frame/vega.ts', formats: ['iife'], name: 'k2', fileName: () => 'vega.js' },
  },
  define: { 'process.env.NODE_ENV': '"production"' },
});
