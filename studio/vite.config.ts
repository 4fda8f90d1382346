import { defineConfig } from 'vite';

export default defineConfig({
  build: {
    outDir: '../dist/studio',
    emptyOutDir: true,
    // Nothing inline: the server's content security policy allows neither inline scripts nor fonts in data URLs.
    assetsInlineLimit: 0,
    // Those of whoever's work is in the pages.
    license: { fileName: 'licenses.txt' },
    modulePreload: { polyfill: false },
    target: 'es2023',
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
