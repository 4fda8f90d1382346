import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { StorageError, TokenizerError } from '../errors.js';
import { refusal } from '../testing/refusal.js';
import { trainBpe } from './bpe.js';
import { Tokenizer } from './tokenizer.js';
import { tokenizerFiles } from './tokenizer-json.js';

const trained = trainBpe(['the whale, the ship, the sea: 11 1111'], { vocabSize: 266 });
const files = tokenizerFiles(trained);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heddle-tokenizer-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A folder whose tokenizer.json is this text. */
async function folderWith(text: string): Promise<string> {
  const made = await mkdtemp(join(folder, 'made-'));
  await writeFile(join(made, 'tokenizer.json'), text);
  return made;
}

test('what is saved is loaded', async () => {
  const saved = join(folder, 'deeply', 'saved');
  const tokenizer = new Tokenizer(files);
  await tokenizer.save(saved);
  expect((await readdir(saved)).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
  const loaded = await Tokenizer.load(saved);
  expect(loaded.files).toEqual(files);
  expect(loaded.endOfText).toBe(0);
  expect(loaded.encode('the sea<|endoftext|>')).toEqual(tokenizer.encode('the sea<|endoftext|>'));
});

test('the file is laid out as Hugging Face lays it out', async () => {
  const saved = join(folder, 'layout');
  await new Tokenizer(files).save(saved);
  const json = JSON.parse(await readFile(join(saved, 'tokenizer.json'), 'utf8'));
  expect(json).toMatchObject({
    version: '1.0',
    added_tokens: [{ id: 0, content: '<|endoftext|>', special: true, normalized: false }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', unk_token: null, merges: trained.merges.map((merge) => merge.join(' ')) },
  });
  expect(json.model.vocab).toEqual(Object.fromEntries(trained.vocab));
  const config = JSON.parse(await readFile(join(saved, 'tokenizer_config.json'), 'utf8'));
  expect(config).toMatchObject({ eos_token: '<|endoftext|>', clean_up_tokenization_spaces: false });
});

test('a config is not needed', async () => {
  const loaded = await Tokenizer.load(await folderWith(JSON.stringify(files.tokenizer)));
  expect(loaded.decode(loaded.encode('the whale , the ship'))).toBe('the whale , the ship');
});

test('a missing file is named, with what to do', async () => {
  const error = await refusal(Tokenizer.load(join(folder, 'absent')));
  expect(error).toBeInstanceOf(TokenizerError);
  expect(error.message).toContain(join(folder, 'absent', 'tokenizer.json'));
  expect(error.message).toContain("put the model's tokenizer.json there");
});

const whole = JSON.stringify(files.tokenizer);
const { model, ...withoutModel } = files.tokenizer as { model: { vocab: Record<string, number> } };
const { the: _, ...vocabWithoutThe } = model.vocab;

test.each([
  ['truncated', whole.slice(0, whole.length / 2), /cut short/],
  ['empty', '', /cut short/],
  ['no JSON', '<!doctype html>', /not JSON/],
  ['no object', 'null', /expected an object, and it is null/],
  ['something else', '{"model_type": "mamba2"}', /added_tokens/],
  ['without a model', JSON.stringify(withoutModel), /model/],
  ['with an id that is none', whole.replace('"Ġ":', '"Ġ":-'), /model\.vocab/],
  [
    'without a merged token',
    JSON.stringify({ ...withoutModel, model: { ...model, vocab: vocabWithoutThe } }),
    /"the"/,
  ],
])('a tokenizer.json that is %s is refused', async (_name, text, reason) => {
  const bad = await folderWith(text);
  const error = await refusal(Tokenizer.load(bad));
  expect(error).toBeInstanceOf(TokenizerError);
  expect(error.message).toContain(join(bad, 'tokenizer.json'));
  expect(error.message).toMatch(reason);
  expect(error.message).toMatch(/again/);
});

test('a bad tokenizer_config.json is named', async () => {
  const bad = await folderWith(whole);
  await writeFile(join(bad, 'tokenizer_config.json'), '{"eos_token": 7}');
  const error = await refusal(Tokenizer.load(bad));
  expect(error).toBeInstanceOf(TokenizerError);
  expect(error.message).toContain(join(bad, 'tokenizer_config.json'));
});

test('a folder that cannot be written to gives StorageError, and no partial file is left', async () => {
  const isFile = join(await folderWith(whole), 'tokenizer.json');
  const error = await refusal(new Tokenizer(files).save(isFile));
  expect(error).toBeInstanceOf(StorageError);
  expect(error.message).toContain(isFile);

  const blocked = join(folder, 'blocked');
  await mkdir(join(blocked, 'tokenizer.json'), { recursive: true });
  expect(await refusal(new Tokenizer(files).save(blocked))).toBeInstanceOf(StorageError);
  expect((await readdir(blocked)).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
});
