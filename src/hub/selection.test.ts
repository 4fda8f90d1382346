/** Selection of the files of a model in GGUF. */
import { expect, test } from 'vitest';
import { HubError } from '../errors.js';
import { type Entry, selectFiles } from './selection.js';

const entries = (...names: string[]): Entry[] =>
  names.map((path) => ({ path, file: { name: path, size: 10, sum: { kind: 'sha256', hex: path } } }));

const repository = entries(
  'README.md',
  'config.json',
  'loom-1b-Q8_0.gguf',
  'loom-1b-Q4_K_M.gguf',
  'loom-1b-Q4_K_S.gguf',
  'loom-1b.f16.gguf',
  'mmproj-loom-1b-Q8_0.gguf',
  'loom-1b-UD-Q2_K_XL-00002-of-00002.gguf',
  'loom-1b-UD-Q2_K_XL-00001-of-00002.gguf',
);

test.each([
  ['Q4_K_M', ['loom-1b-Q4_K_M.gguf']],
  ['q8_0', ['loom-1b-Q8_0.gguf']],
  ['F16', ['loom-1b.f16.gguf']],
  ['UD-Q2_K_XL', ['loom-1b-UD-Q2_K_XL-00001-of-00002.gguf', 'loom-1b-UD-Q2_K_XL-00002-of-00002.gguf']],
])('%s', (format, names) => {
  const { weights, parts = [], small, config } = selectFiles('weavers/loom', repository, format);
  expect([weights, ...parts].map(({ name }) => name)).toEqual(names);
  expect(small.map(({ name }) => name)).toEqual(['README.md']);
  expect(config).toBeUndefined();
});

test('the error lists what the repository has', () => {
  const refusal = (format?: string, of = repository): string => {
    try {
      selectFiles('weavers/loom', of, format);
    } catch (error) {
      expect(error).toBeInstanceOf(HubError);
      return (error as Error).message;
    }
    throw new Error('nothing was refused');
  };
  expect(refusal('Q5_0')).toMatch(/no GGUF file in "Q5_0".*Q8_0, Q4_K_M, Q4_K_S, F16, UD-Q2_K_XL/);
  expect(refusal()).toMatch(/has GGUF files: name the format that you want, as weavers\/loom:Q8_0/);
  expect(refusal('Q4_0', entries('model.safetensors'))).toMatch(/no GGUF files: leave the format out/);
  expect(refusal('Q4_0', entries('a-Q4_0.gguf', 'b-Q4_0.gguf'))).toMatch(
    /several GGUF files.*a-Q4_0\.gguf, b-Q4_0\.gguf/,
  );
});
