/**
 * Writes a tokenizer with the 100,256 byte pairs of `cl100k_base`, which Granite 4.0's tokenizer has too, so that pages become as many
 * tokens as they would for that model. Usage: node bench/archive/cl100k.mjs node_modules/js-tiktoken/dist/ranks/cl100k_base.js folder
 *
 * The ranks are those of the npm package js-tiktoken, which is not installed with Heddle. Texts are cut by Llama 3's pattern, which is that
 * of cl100k_base.
 */
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { split, WORD_PATTERNS } from '../../dist/text/cuttings.js';
import { readTiktoken } from '../../dist/text/tiktoken-vocabulary.js';
import { writeTokenizerFiles } from '../../dist/text/tokenizer-json.js';

const [ranks, folder] = process.argv.slice(2);
const { bpe_ranks: lines } = (await import(pathToFileURL(resolve(ranks)).href)).default;
// A line is a sign, the rank of its first token, and the tokens.
const text = lines
  .split('\n')
  .flatMap((line) => {
    const [, first, ...tokens] = line.split(' ');
    return tokens.map((token, i) => `${token} ${Number(first) + i}`);
  })
  .join('\n');
// The reader knows the cutting of Kimi's models alone, which is replaced.
const { tokenizer, config } = readTiktoken(text, ranks, { auto_map: 'tokenization_kimi' });
mkdirSync(folder, { recursive: true });
await writeTokenizerFiles(folder, {
  tokenizer: {
    ...tokenizer,
    added_tokens: [],
    pre_tokenizer: split(WORD_PATTERNS.LLAMA3),
    model: { ...tokenizer.model, ignore_merges: false },
  },
  config,
});
