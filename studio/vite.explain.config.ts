import { defineConfig } from 'vite';

/** The script and the styles of the pages that `heddle explain` writes, each one file, to be put into them. */
export default defineConfig({
  build: {
    outDir: '../dist/explain',
    emptyOutDir: true,
    assetsInlineLimit: Number.POSITIVE_INFINITY,
    // Those of whoever's work is in the pages.
    license: { fileName: 'licenses.txt' },
    modulePreload: { polyfill: false },
    target: 'es2023',
    cssCodeSplit: false,
    rolldownOptions: {
      input: 'studio/src/explain.tsx',
      output: { entryFileNames: 'page.js', assetFileNames: 'page[extname]' },
    },
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
