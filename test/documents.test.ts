/** The documents are true: their links lead somewhere, their commands exist, and their programs compile and run. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeBlocks, DOCUMENTS, readDocument, root } from './testing/documents.js';
import { build, heddle } from './testing/heddle.js';

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

test.each(DOCUMENTS)('the links of %s lead somewhere', (path) => {
  for (const [, target] of readDocument(path).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target!)) continue;
    const [file, anchor] = target!.split('#');
    const linked = file === '' ? path : join(dirname(path), file!);
    expect(existsSync(root + linked), target).toBe(true);
    if (anchor !== undefined) expect(anchors(readDocument(linked)), target).toContain(anchor);
  }
});

/** Calls of the command in a document, a list of words each. */
function calls(text: string): string[][] {
  const inline = [...text.matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!);
  const shells = codeBlocks(text).flatMap(({ language, text }) =>
    language === '' ? text.replaceAll('\\\n', ' ').split('\n') : [],
  );
  return [...inline, ...shells].flatMap((line) => {
    const [, rest] = /^(?:\$ )?(?:npx heddle|npm run -s heddle --|heddle) (.*)$/.exec(line) ?? [];
    return rest === undefined
      ? []
      : [
          rest
            .replace(/\s+#.*$|"[^"]*"/g, ' ')
            .trim()
            .split(/\s+/),
        ];
  });
}

const CALLS = DOCUMENTS.flatMap((path) => calls(readDocument(path)).map((words) => ({ path, words })));

test('the documents call every command, and only those that exist, with options that they have', async () => {
  expect(CALLS.length).toBeGreaterThan(40);
  const names = new Set(CALLS.map(({ words }) => words[0]!).filter((name) => /^\w/.test(name)));
  const overview = (await heddle(['help'])).stdout;
  const known = [...overview.matchAll(/^ {2}(\w+) {2,}|^ {2}(\w+) \[/gm)].map(([, a, b]) => a ?? b!);
  for (const name of names) expect(known).toContain(name);
  for (const name of known) expect([...names]).toContain(name);
  const help = new Map<string, string>();
  names.delete('help');
  for (const name of names) {
    const { configure } = (await import(`../src/cli/${name}.ts`)) as {
      configure: (command: Command) => void;
    };
    const command = new Command(name);
    configure(command);
    // What a command has commands of its own for, those have the options for.
    help.set(name, [command, ...command.commands].map((each) => each.helpInformation()).join('\n'));
  }
  for (const { path, words } of CALLS) {
    for (const option of words.filter((word) => word.startsWith('--') && word !== '--')) {
      const text = help.get(words[0]!) ?? overview;
      expect(text, `${path}: heddle ${words.join(' ')}`).toMatch(new RegExp(`(^|[\\s,])${option}\\b`, 'm'));
    }
  }
});

describe('programs', () => {
  const programs = DOCUMENTS.flatMap((path) =>
    codeBlocks(readDocument(path))
      .filter(({ language }) => language === 'ts')
      .map(({ text }, i) => ({ name: `${path.replaceAll(/\W/g, '-')}-${i}`, text })),
  );

  test('compile, with all that TypeScript can check', () => {
    for (const { name, text } of programs) writeFileSync(join(project, `${name}.ts`), text);
    const { stdout, status } = spawnSync(
      process.execPath,
      [
        join(root, 'node_modules/typescript/bin/tsc'),
        ...programs.map(({ name }) => `${name}.ts`),
        ...['--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--ignoreConfig'],
      ],
      { cwd: project, encoding: 'utf8' },
    );
    expect(stdout).toBe('');
    expect(status).toBe(0);
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
