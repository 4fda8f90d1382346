/** The pages of the demo. `heddle/browser` is beside them, as it is built for everybody: scripts/demo.mjs puts it there. */
import { defineConfig } from 'vite';

export default defineConfig({
  // Any folder of any host.
  base: './',
  build: {
    outDir: '../dist-demo',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    license: { fileName: 'licenses.txt' },
    modulePreload: { polyfill: false },
    target: 'es2023',
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
