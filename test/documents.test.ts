/** The documents are correct: their links have targets, and their programs compile and run. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeBlocks, DOCUMENTS, readDocument, root } from './testing/documents.js';
import { build } from './testing/heddle.js';

let project: string;
beforeAll(() => {
  build();
  project = mkdtempSync(join(tmpdir(), 'heddle-documents-'));
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(root, join(project, 'node_modules', 'heddle'));
  for (const name of ['@types', 'openai']) {
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name));
  }
  writeFileSync(join(project, 'package.json'), '{"type":"module"}');
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

/** A heading as the part of an address after #, in the way that renderers of Markdown have it. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

test.each(DOCUMENTS)('the links of %s have targets', (path) => {
  for (const [, target] of readDocument(path).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target!)) continue;
    const [file, anchor] = target!.split('#');
    const linked = file === '' ? path : join(dirname(path), file!);
    expect(existsSync(root + linked), target).toBe(true);
    if (anchor !== undefined) expect(anchors(readDocument(linked)), target).toContain(anchor);
  }
});

/** Compiles programs as a project that has the package would, the declarations of the package included. */
function compile(files: readonly string[], options: readonly string[]): void {
  const { stdout, status } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules/typescript/bin/tsc'),
      ...files,
      ...['--strict', '--module', 'nodenext', '--target', 'es2022', '--ignoreConfig', ...options],
    ],
    { cwd: project, encoding: 'utf8' },
  );
  expect(stdout).toBe('');
  expect(status).toBe(0);
}

/** What the snippets of a page have from those before them, or from the page around them. */
const GIVEN = {
  model: "import('heddle/browser').TabModel",
  session: "import('heddle/browser').TabSession",
  id: 'string',
  text: 'string',
  signal: 'AbortSignal',
};

test('the snippets for a browser compile, without the types of Node.js', () => {
  const snippets = codeBlocks(readDocument('docs/browser.md')).filter(({ language }) => language === 'js');
  expect(snippets.length).toBeGreaterThan(3);
  const files = snippets.map(({ text }, i) => {
    const given = Object.entries(GIVEN).filter(([name]) => !new RegExp(`^const ${name}\\b`, 'm').test(text));
    const declared = given.map(([name, type]) => `declare const ${name}: ${type};`);
    writeFileSync(join(project, `browser-${i}.ts`), [...declared, text, 'export {};'].join('\n'));
    return `browser-${i}.ts`;
  });
  compile(files, ['--noEmit', '--types', '', '--lib', 'es2023,dom,dom.iterable,dom.asynciterable']);
});

test("the package's declarations need no types of web pages in Node.js", () => {
  const { exports } = JSON.parse(readDocument('package.json')) as { exports: Record<string, unknown> };
  const entries = Object.keys(exports).filter((name) => /^\.(\/\w+)?$/.test(name) && name !== './browser');
  expect(entries.length).toBeGreaterThan(4);
  const imports = entries.map(
    (name) => `export * as ${name.slice(2) || 'main'} from 'heddle${name.slice(1)}';`,
  );
  writeFileSync(join(project, 'entries.ts'), imports.join('\n'));
  compile(['entries.ts'], ['--noEmit', '--types', 'node', '--lib', 'es2023']);
});

describe('programs', () => {
  const programs = DOCUMENTS.flatMap((path) =>
    codeBlocks(readDocument(path))
      .filter(({ language }) => language === 'ts')
      .map(({ text }, i) => ({ name: `${path.replaceAll(/\W/g, '-')}-${i}`, text })),
  );

  test("compile with TypeScript's strictest checks", () => {
    for (const { name, text } of programs) writeFileSync(join(project, `${name}.ts`), text);
    compile(
      programs.map(({ name }) => `${name}.ts`),
      ['--types', 'node'],
    );
  });

  test.each(programs.filter(({ text }) => !text.includes("from 'openai'")))('$name runs', ({ name }) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [`${name}.js`], {
      cwd: project,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout.length).toBeGreaterThan(100);
  });
});
