/** Bundles the tests for a machine with a GPU into one file each, which need nothing but Node.js and koffi. */
import { defineConfig } from 'vite';
import { NODE } from '../../scripts/platforms.mjs';

export default defineConfig({
  resolve: { alias: NODE },
  build: {
    ssr: true,
    outDir: 'dist-gpu',
    target: 'node20',
    rollupOptions: { input: { operators: 'test/gpu/operators.ts' } },
  },
  ssr: { noExternal: true, external: ['koffi', 'onnxruntime-node'] },
});
