/**
 * Compiles the kernels of the wasm executor and writes them into a module, so that nothing looks for files when it is
 * loaded: src/engine/wasm/binary.ts, which is left alone where its sources are the same.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = `${root}src/engine/wasm/kernels`;
const target = `${root}src/engine/wasm/binary.ts`;
const sources = [
  ...readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .sort()
    .map((name) => `${folder}/${name}`),
  `${root}src/graph/lower/wasm/codes.ts`,
  fileURLToPath(import.meta.url),
];

/** Also the setup of the tests. */
export default async function kernels() {
  const hash = createHash('sha256');
  for (const source of sources) hash.update(readFileSync(source));
  const digest = hash.digest('hex');
  if (existsSync(target) && readFileSync(target, 'utf8').includes(digest)) return;
  const builds = {
    dot: await compile(['relaxed-simd'], true),
    relaxed: await compile(['relaxed-simd']),
    plain: await compile([]),
  };
  const names = Object.keys(builds)
    .map((name) => `'${name}'`)
    .join(' | ');
  // With a type of its own the declarations do not hold the modules a second time.
  const text = `/** Made by scripts/kernels.mjs from the kernels' sources: ${digest}. */
export const BINARIES: Readonly<Record<${names}, string>> = ${JSON.stringify(builds, undefined, 2)};
`;
  // Several processes may do this at once: each writes a whole file.
  writeFileSync(`${target}.${process.pid}`, text);
  renameSync(`${target}.${process.pid}`, target);
}

/** The module with these features beyond SIMD and threads, in base64. */
async function compile(features, hasDot = false) {
  const { default: asc } = await import('assemblyscript/asc');
  let binary;
  const { error, stderr } = await asc.main(
    [
      'src/engine/wasm/kernels/index.ts',
      // Not -O3: what it makes of the barrier's loops runs for ever in the first compiler of V8 11 (Node 20).
      ...['--outFile', 'kernels.wasm', '-O2', '--noAssert', '--runtime', 'stub'],
      ...['simd', 'threads', ...features].flatMap((feature) => ['--enable', feature]),
      ...['--importMemory', '--sharedMemory', '--initialMemory', '16', '--maximumMemory', '65536'],
      ...['--memoryBase', '1024', '--baseDir', root],
    ],
    {
      readFile: (name, base) => {
        const path = resolve(base, name);
        if (!existsSync(path)) return null;
        const text = readFileSync(path, 'utf8');
        if (!hasDot || !path.endsWith('/kernels/build.ts')) return text;
        return text.replace('HAS_DOT: bool = false', 'HAS_DOT: bool = true');
      },
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) binary = contents;
      },
    },
  );
  if (error) throw new Error(`the kernels do not compile:\n${stderr.toString()}`);
  return Buffer.from(binary).toString('base64');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await kernels();
