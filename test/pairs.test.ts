/** Pairs of texts from the command line: targets are learned from sources alone; what is no pair is told with its line. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-pairs-command-'));
beforeAll(build);
afterAll(() => rmSync(here, { recursive: true, force: true }));

function file(name: string, text: string): string {
  writeFileSync(join(here, name), text);
  return join(here, name);
}

const COLOURS = { red: 'rot', green: 'grün', blue: 'blau', black: 'schwarz' };
const THINGS = { house: 'Haus', car: 'Auto', book: 'Buch', bed: 'Bett', horse: 'Pferd', leaf: 'Blatt' };
const PAIRS = Object.entries(COLOURS).flatMap(([colour, farbe]) =>
  Object.entries(THINGS).map(([thing, ding]) => `the ${thing} is ${colour}\tDas ${ding} ist ${farbe}.`),
);

const train = (path: string, out: string, ...args: string[]) =>
  heddle([
    'train',
    path,
    '--out',
    join(here, out),
    '--size',
    'nano',
    '--vocab',
    '300',
    '--warmup',
    '5',
    '--threads',
    '1',
    ...args,
  ]);

test('targets are learned from sources, and end', async () => {
  const pairs = file('pairs.tsv', `${PAIRS.join('\r\n')}\n\n`);
  const { code, stderr } = await train(pairs, 'run', '--steps', '120', '--validation', '0.1');
  expect(stderr).toMatch(/pairs\.tsv: 22 pairs to learn from, 2 held out; the longest has \d+ tokens/);
  const losses = [...stderr.matchAll(/validation loss ([\d.]+)/g)].map(([, loss]) => Number(loss));
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 4);
  expect(code).toBe(0);
  const said = await heddle([
    'generate',
    join(here, 'run'),
    '--prompt',
    'the horse is blue\t',
    '--temperature',
    '0',
  ]);
  expect(said.stdout).toMatch(/Das Pferd ist blau\.\s*$/);
});

test.each([
  ['a\tb\n\tc\n', /x\.tsv, line 2: the source is empty/],
  ['a\tb\nc\t \n', /x\.tsv, line 2: the target is empty/],
  ['a\tb\n\t\n', /x\.tsv, line 2: both sides of the pair are empty/],
  ['a\tb\n\nc d\n', /x\.tsv, line 3 has no tab: expected a source, a tab and a target/],
  ['a\tb\tc\n', /x\.tsv, line 1 has 3 columns/],
  ['a\tb\n', /x\.tsv has 1 pairs?: expected two at least/],
  ['', /x\.tsv has 0 pairs/],
])('%j is refused, and writes nothing', async (text, message) => {
  const { code, stderr } = await train(file('x.tsv', text), 'none', '--steps', '1');
  expect(stderr).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(join(here, 'none'))).toBe(false);
});

test('a pair that is longer than a sequence is refused', async () => {
  const { code, stderr } = await train(
    file('long.tsv', PAIRS.join('\n')),
    'long',
    '--steps',
    '1',
    '--sequence',
    '5',
  );
  expect(stderr).toMatch(/a pair has \d+ tokens, and a sequence 6: use a longer --sequence/);
  expect(code).toBe(1);
});
