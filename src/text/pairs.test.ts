/** The chat template of models that were trained on pairs, whose prompts have the form of the training pairs. */
import { expect, test } from 'vitest';
import { ChatTemplate } from './chat-template.js';
import { asPairSource, pairTemplate } from './pairs.js';
import { TINY_TEXT, tinyTokenizer } from './testing/tiny.js';
import { Tokenizer } from './tokenizer.js';

const of = (source: string): ChatTemplate =>
  new ChatTemplate({ sources: { default: source }, origin: 'here' });
const template = of(pairTemplate(tinyTokenizer));

test('the last message of a user is the source', async () => {
  const asked = { role: 'user', content: ' the horse is blue\n' };
  const before = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b' },
  ];
  const rendered = await template.render([...before, asked], { addGenerationPrompt: true });
  expect(rendered).toBe('the horse is blue\t');
  expect(await template.render([asked, before[1]!])).toBe('the horse is blue\tb');
  await expect(template.render([{ role: 'system', content: 'x' }, asked])).rejects.toThrow(
    /trained on pairs of texts.*knows no messages of the role system/,
  );
});

test('it starts with the tokens that begin a text', async () => {
  const { tokenizer, config } = tinyTokenizer.files;
  const begun = new Tokenizer({
    tokenizer,
    config: { ...config, add_bos_token: true, bos_token: '<|endoftext|>' },
  });
  expect(begun.beginning).toHaveLength(1);
  const text = await of(pairTemplate(begun)).render([{ role: 'user', content: TINY_TEXT.slice(0, 20) }]);
  expect(begun.encode(text)).toEqual(begun.encodeFromStart(`${TINY_TEXT.slice(0, 20).trim()}\t`));
});

test('a prompt becomes a source where the model was trained on pairs, and it has no separator', () => {
  expect(asPairSource(template, 'a b')).toBe('a b\t');
  for (const text of ['', 'a\t', 'a\tb']) expect(asPairSource(template, text)).toBe(text);
  expect(asPairSource(undefined, 'a b')).toBe('a b');
  expect(asPairSource(of('{{ messages[0].content }}'), 'a b')).toBe('a b');
});
