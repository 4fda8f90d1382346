/** How long a text may be, where nobody says. */
import { expect, test } from 'vitest';
import { contextLength, servedContext } from './context-length.js';
import { hybridModel } from './hybrid.js';
import { tinyConfig } from './testing/tiny.js';

test('a growing state has the length of the config; one that does not grow has none', () => {
  const growing = hybridModel(tinyConfig({ pattern: 'M-*-', maxPositionEmbeddings: 512 }));
  expect([contextLength(growing), servedContext(growing)]).toEqual([512, 512]);
  const silent = { ...growing, maxPositionEmbeddings: undefined };
  expect([contextLength(silent), servedContext(silent)]).toEqual([undefined, 32_768]);
  const fixed = hybridModel(tinyConfig({ pattern: 'M-M-', maxPositionEmbeddings: 512 }));
  expect([contextLength(fixed), servedContext(fixed)]).toEqual([undefined, 131_072]);
});
