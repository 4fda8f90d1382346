/**
 * Heddle as a dependency: what `npm pack` makes is installed into an empty folder, with nothing but the registry's address, by the
 * newest npm and by npm 10, which comes with Node.js 20 and 22. Then it is used as the README says.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeBlocks, readDocument, root } from './testing/documents.js';
import { build } from './testing/heddle.js';

let here: string;
let tarball: string;

/** What a person's shell has: npm's settings are in the home folder, and none are in the environment. */
const { PATH, HOME } = process.env;

/** Runs a command; throws with what it said. What npm downloaded before is taken from its cache. */
function run(command: string, args: readonly string[], cwd: string): string {
  const env = { PATH, HOME, npm_config_prefer_offline: 'true' };
  return execFileSync(command, args, { cwd, env, encoding: 'utf8', maxBuffer: 1e8, stdio: 'pipe' });
}

beforeAll(() => {
  build();
  here = mkdtempSync(join(tmpdir(), 'heddle-install-'));
  run('npm', ['pack', '--ignore-scripts', '--pack-destination', here], root);
  tarball = join(here, readdirSync(here).find((name) => name.endsWith('.tgz'))!);
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

test('the tarball is small, and contains only what is needed', () => {
  expect(statSync(tarball).size).toBeLessThan(17.8e6);
  const files = execFileSync('tar', ['tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  for (const needed of [
    'LICENSE',
    'README.md',
    'postinstall.mjs',
    'dist/index.d.ts',
    'dist/cli/main.js',
    'dist/studio/index.html',
    'dist/cli/command/licenses.txt',
    'dist/browser/licenses.txt',
    'assets/sotu-hybrid/model.safetensors',
    'docs/library.md',
  ]) {
    expect(files).toContain(`package/${needed}`);
  }
  expect(files.filter((name) => /node_modules|\.test\.|\/testing\/|\.map$|^package\/src/.test(name))).toEqual(
    [],
  );
});

describe.each([
  ['the npm of this machine', ['npm']],
  ['npm 10', ['npx', '--yes', 'npm@10']],
])('with %s', (name, [npm, ...words]) => {
  let project: string;
  beforeAll(() => {
    project = mkdtempSync(join(here, 'project-'));
  });

  test('it installs into an empty folder', () => {
    run(npm!, [...words, 'install', tarball], project);
    const { dependencies } = JSON.parse(run('cat', ['package.json'], project)) as {
      dependencies: Record<string, string>;
    };
    expect(Object.keys(dependencies)).toEqual(['heddle']);
    expect(readdirSync(join(project, 'node_modules', 'heddle', '.onnxruntime'))).toHaveLength(1);
    if (name === 'npm 10') expect(run(npm!, [...words, '--version'], project)).toMatch(/^10\./);
  });

  test("the README's program compiles and writes", () => {
    const program = codeBlocks(readDocument('README.md')).find(({ language }) => language === 'ts')!.text;
    expect(program.trimEnd().split('\n').length).toBeLessThanOrEqual(10);
    writeFileSync(join(project, 'program.mts'), program);
    const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules', '@types'), '--ignoreConfig'];
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    run(
      process.execPath,
      [tsc, 'program.mts', '--strict', '--module', 'nodenext', '--target', 'es2022', ...types],
      project,
    );
    const written = run(process.execPath, ['program.mjs'], project);
    expect(written).toMatch(/^.{40,}\n1\d{6} bytes of memory, however long the text gets\n$/s);
  });

  test('the command works, and its hints use the name that it was called by', () => {
    expect(run('npx', ['heddle', '--version'], project)).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(run('npx', ['heddle', 'info', 'sotu-hybrid'], project)).toMatch(/^sotu-hybrid: heddle, 7\.61M/);
    expect(() => run('npx', ['heddle', 'info', 'nowhere'], project)).toThrow(
      /'npx heddle pull <owner\/name>'/,
    );
  });
});
