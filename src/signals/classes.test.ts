/** Folders of examples by class. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findClasses } from './classes.js';
import { SOUND_FILE } from './sound.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-classes-'));
const at = (...names: string[]): string => join(here, ...names);
afterAll(() => rmSync(here, { recursive: true, force: true }));

beforeAll(() => {
  for (const name of ['high', 'low']) {
    mkdirSync(at('sounds', name), { recursive: true });
    for (const file of ['1.wav', '2.WAV', '.hidden.wav', 'notes.txt'])
      writeFileSync(at('sounds', name, file), '');
  }
});

const found = { classes: ['high', 'low'], labels: [0, 0, 1, 1], files: ['1.wav', '2.WAV', '1.wav', '2.WAV'] };

async function classesIn(folder: string) {
  const { classes, files, leftOut } = (await findClasses(folder, SOUND_FILE))!;
  const names = files.map(({ path }) => path.slice(folder.length + 1));
  return {
    classes,
    labels: files.map(({ label }) => label),
    files: names.map((name) => name.split('/')[1]),
    leftOut: leftOut.map((path) => path.slice(folder.length + 1)),
  };
}

test('each subfolder is a class', async () => {
  expect(await classesIn(at('sounds'))).toEqual({ ...found, leftOut: ['high/notes.txt', 'low/notes.txt'] });
});

test('links to folders and to files are followed', async () => {
  mkdirSync(at('links', 'low'), { recursive: true });
  symlinkSync('../sounds/high', at('links', 'high'));
  for (const file of ['1.wav', '2.WAV']) symlinkSync(at('sounds', 'low', file), at('links', 'low', file));
  expect(await classesIn(at('links'))).toEqual({ ...found, leftOut: ['high/notes.txt'] });
  symlinkSync('links', at('itself'));
  expect(await classesIn(at('itself'))).toEqual({ ...found, leftOut: ['high/notes.txt'] });
});

test('a link to a folder that it is in ends there', async () => {
  mkdirSync(at('round'));
  for (const name of ['high', 'low']) symlinkSync(at('sounds', name), at('round', name));
  symlinkSync('.', at('round', 'again'));
  const { classes, labels, leftOut } = await classesIn(at('round'));
  expect({ classes, labels }).toEqual({ classes: found.classes, labels: found.labels });
  expect(leftOut[0]).toBe('again (no class: no such files lie in it)');
});
