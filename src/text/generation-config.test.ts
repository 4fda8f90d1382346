/** The generation settings of a checkpoint, and the tokens that end its answers. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TokenizerError } from '../errors.js';
import { endOfTurnIds, readGenerationConfig } from './generation-config.js';
import { tinyTokenizer } from './testing/tiny.js';
import { Tokenizer } from './tokenizer.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heddle-generation-config-'));
});
afterAll(() => rm(folder, { recursive: true }));

let made = 0;
async function folderWith(files: Record<string, unknown>): Promise<string> {
  const path = join(folder, String(made++));
  await mkdir(path);
  for (const [name, contents] of Object.entries(files)) {
    await writeFile(join(path, name), typeof contents === 'string' ? contents : JSON.stringify(contents));
  }
  return path;
}

const read = async (contents: unknown): Promise<unknown> =>
  readGenerationConfig(await folderWith({ 'generation_config.json': contents }));

test('the settings in the file, and no others', async () => {
  expect(
    await read({
      bos_token_id: 1,
      eos_token_id: [7, 2],
      do_sample: true,
      temperature: 0.6,
      top_k: 20,
      top_p: 0.9,
      repetition_penalty: 1.05,
      transformers_version: '4.51.0',
    }),
  ).toEqual({
    bosTokenId: 1,
    eosTokenIds: [7, 2],
    temperature: 0.6,
    topK: 20,
    topP: 0.9,
    repetitionPenalty: 1.05,
  });
  expect(await read({ eos_token_id: 3, top_p: null })).toEqual({ eosTokenIds: [3] });
  expect(await read({})).toEqual({ eosTokenIds: [] });
  expect(await readGenerationConfig(await folderWith({}))).toEqual({ eosTokenIds: [] });
});

test('disabled sampling is a temperature of 0, whatever else the file says', async () => {
  expect(await read({ do_sample: false, temperature: 0.6 })).toEqual({ eosTokenIds: [], temperature: 0 });
});

test('-1 is not a token', async () => {
  expect(await read({ bos_token_id: -1, eos_token_id: [-1, 4] })).toEqual({ eosTokenIds: [4] });
});

test('top_k of -1 is all tokens, and values outside their range are ignored', async () => {
  expect(await read({ top_k: -1, top_p: 1, do_sample: true })).toEqual({ eosTokenIds: [], topK: 0, topP: 1 });
  for (const careless of [
    { temperature: -1 },
    { top_p: 0 },
    { top_p: 1.5 },
    { repetition_penalty: 0 },
    { top_k: null },
    { top_k: 2.5 },
  ]) {
    expect(await read(careless), JSON.stringify(careless)).toEqual({ eosTokenIds: [] });
  }
});

test('a damaged file is refused with its path', async () => {
  for (const wrong of [
    '{"eos_token_id": 2',
    '[]',
    { eos_token_id: '</s>' },
    { eos_token_id: 1.5 },
    { temperature: 'warm' },
    { top_k: [1] },
    { do_sample: 'no' },
  ]) {
    const reading = read(wrong);
    await expect(reading).rejects.toBeInstanceOf(TokenizerError);
    await expect(reading).rejects.toThrow(/generation_config\.json is not/);
  }
});

test('an answer ends at the tokens of every file, each once', async () => {
  const ending = new Tokenizer({ tokenizer: tinyTokenizer.files.tokenizer, config: { eos_token: 'a' } });
  const end = ending.endOfText!;
  const at = async (files: Record<string, unknown>): Promise<number[]> =>
    endOfTurnIds(await folderWith(files), ending);
  expect(
    await at({ 'generation_config.json': { eos_token_id: [5, 9] }, 'config.json': { eos_token_id: 5 } }),
  ).toEqual([5, 9, end]);
  expect(await at({ 'config.json': { eos_token_id: [8, end] } })).toEqual([8, end]);
  expect(await at({})).toEqual([end]);
  const endless = new Tokenizer({ tokenizer: tinyTokenizer.files.tokenizer, config: { eos_token: 'none' } });
  expect(await endOfTurnIds(await folderWith({}), endless)).toEqual([]);
  await expect(at({ 'config.json': { eos_token_id: 'x' } })).rejects.toThrow(/config\.json is not what/);
});
