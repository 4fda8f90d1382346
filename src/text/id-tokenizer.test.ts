import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TokenizerError } from '../errors.js';
import { idTokenizer, loadTokenizerOrIds } from './id-tokenizer.js';

const ids = idTokenizer(300, 'x has no tokenizer.json');

test('texts are ids separated by spaces', () => {
  expect(ids.encode(' 3 14\n15 ')).toEqual([3, 14, 15]);
  expect(ids.encodeFromStart('0 299')).toEqual([0, 299]);
  expect(ids.decode([3, 14, 15])).toBe('3 14 15');
  expect(ids.vocabSize).toBe(300);
  const stream = ids.stream();
  expect([92, 6, 5].map((id) => stream.push(id)).join('') + stream.end()).toBe(' 92 6 5');
});

test.each(['hello', '3 300', '-1', '1.5'])('%j is refused with the expected form', (text) => {
  expect(() => ids.encode(text)).toThrow(TokenizerError);
  expect(() => ids.encode(text)).toThrow(
    /x has no tokenizer\.json, so its texts are token ids from 0 to 299/,
  );
});

test('a folder with a tokenizer in another format is not treated as one without', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-ids-'));
  try {
    writeFileSync(join(folder, 'config.json'), '{}');
    expect((await loadTokenizerOrIds(folder, 7)).encode('6')).toEqual([6]);
    writeFileSync(join(folder, 'tokenizer.model'), '');
    await expect(loadTokenizerOrIds(folder, 7)).rejects.toThrow(/there is no .*tokenizer\.json/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
