/** Checkpoints of other families to go on from, for tests: those of test/fixtures, with a tokenizer of their 128 tokens. */
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readReference } from '../../models/testing/reference.js';
import { Tokenizer } from '../../text/index.js';
import { TINY_TEXT } from '../../text/testing/tiny.js';

const END = '<|end|>';
const LETTERS = [END, ...new Set(TINY_TEXT.replaceAll(' ', 'Ġ'))];

/** A token a letter. */
export const letters = new Tokenizer({
  tokenizer: {
    version: '1.0',
    added_tokens: [{ id: 0, content: END, special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: Object.fromEntries(LETTERS.map((letter, i) => [letter, i])), merges: [] },
  },
  config: { eos_token: END },
});

/** What stands beside the weights below, besides the tokenizer. */
export const COMPANIONS: Readonly<Record<string, string>> = {
  'chat_template.jinja': '{% for message in messages %}{{ message.content }}{% endfor %}',
  'generation_config.json': '{"temperature":   0.5}',
  LICENSE: 'Do as you like.',
};

/** Makes a folder with the checkpoint of a family. */
export async function makeBase(folder: string, name: string): Promise<void> {
  const reference = await readReference('hf', name);
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(reference.folder)) {
    if (!file.startsWith('reference.')) cpSync(join(reference.folder, file), join(folder, file));
  }
  await letters.save(folder);
  for (const [file, text] of Object.entries(COMPANIONS)) writeFileSync(join(folder, file), text);
}
