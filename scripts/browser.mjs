/** Bundles what a page imports and its worker, each into one file without anything of Node, into dist/browser or a named folder. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { writeLicenses } from './licenses.mjs';
import { BROWSER } from './platforms.mjs';

const source = (path) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));

/** What comes along; all other packages serve Node, and fall away with the functions that use them. */
const BUNDLED = [
  '@huggingface/gguf',
  '@huggingface/tasks',
  '@huggingface/tokenizers',
  '@noble/hashes',
  'modern-tar',
  'zod',
];

/** Returns the files by their names. */
export async function bundleForBrowser(folder = source('../dist/browser')) {
  const bundle = await rolldown({
    input: { index: source('browser/index.ts'), worker: source('browser/worker.ts') },
    platform: 'browser',
    // Its paths are those of Node.
    tsconfig: false,
    resolve: { alias: BROWSER, extensionAlias: { '.js': ['.ts', '.js'] } },
    external: (id) => /^[@\w]/.test(id) && !isAbsolute(id) && !BUNDLED.some((name) => id.startsWith(name)),
    treeshake: { moduleSideEffects: false },
  });
  // What the compiler has made of the same files.
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (name.endsWith('.js')) rmSync(join(folder, name));
  }
  const { output } = await bundle.write({
    dir: folder,
    format: 'esm',
    minify: true,
    keepNames: true,
    chunkFileNames: '[name].js',
  });
  await bundle.close();
  writeLicenses(folder, output);
  return output;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await bundleForBrowser(process.argv[2]);
