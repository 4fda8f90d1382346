/** The tokens that are learned of a conversation are those that the model is asked with and answers. */
import { expect, test } from 'vitest';
import { type ChatMessage, ChatTemplate, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { ALTERNATING, CHATML, THINKING, TOOLS } from '../text/testing/chat-templates.js';
import { spacedTokenizer } from '../text/testing/spaced.js';
import { TINY_TEXT } from '../text/testing/tiny.js';
import { ConversationFormat } from './conversation.js';

const specialTokens = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<s>', '</s>'];
const tokenizer = new Tokenizer(
  tokenizerFiles(
    trainBpe([`${TINY_TEXT}\n\n`.repeat(3)], { vocabSize: 320, specialTokens, minFrequency: 1 }),
  ),
);

function formatOf(source: string): Promise<ConversationFormat> {
  const variables = { bos_token: '<s>', eos_token: '</s>' };
  const template = new ChatTemplate({ sources: { default: source }, origin: 'test', variables });
  return ConversationFormat.learn(template, tokenizer);
}

const said = (role: string, content: string, more: object = {}): ChatMessage => ({ role, content, ...more });
const MESSAGES = [
  said('user', 'the cat <|im_end|> sat'),
  said('assistant', 'on the mat'),
  said('user', 'and the dog'),
  said('assistant', 'the log'),
  said('user', 'so?'),
];
const answersOf = (learned: { ids: readonly number[]; answers: readonly (readonly [number, number])[] }) =>
  learned.answers.map(([from, to]) => tokenizer.decode(learned.ids.slice(from, to)));

test.each([
  ['ChatML', CHATML, '<|im_end|>'],
  ['turns', ALTERNATING, '</s>'],
])('%s: all answers in one text, each behind the prompt that asks for it', async (_, source, end) => {
  const format = await formatOf(source);
  const [learned, ...others] = await format.toLearn(MESSAGES);
  expect(others).toEqual([]);
  expect(answersOf(learned!)).toEqual([`on the mat${end}`, `the log${end}`]);
  for (const [i, [from]] of learned!.answers.entries()) {
    const { ids } = await format.withAnswer(MESSAGES.slice(0, 2 * i + 1));
    expect(learned!.ids.slice(0, from)).toEqual(ids);
  }
  // What a user writes is no control token.
  const [first] = learned!.answers[0]!;
  const marks = learned!.ids.slice(0, first).filter((id) => id === tokenizer.tokenToId('<|im_end|>'));
  expect(marks).toHaveLength(end === '</s>' ? 0 : 1);
});

test('an answer with the weight 0 is read and not learned', async () => {
  const format = await formatOf(CHATML);
  const messages = MESSAGES.map((message, i) => (i === 1 ? { ...message, weight: 0 } : message));
  const [learned] = await format.toLearn(messages);
  expect(answersOf(learned!)).toEqual(['the log<|im_end|>']);
  expect(tokenizer.decode([...learned!.ids])).toContain('on the mat<|im_end|>');
});

test('where a template drops earlier thoughts, each answer has a text of its own', async () => {
  const format = await formatOf(THINKING);
  const thought = (text: string): string => `<think>\nthat was\n</think>\n\n${text}`;
  const messages = [
    ...[MESSAGES[0]!, said('assistant', thought('on the mat'))],
    ...[MESSAGES[2]!, said('assistant', 'the log')],
  ];
  const [first, second, ...others] = await format.toLearn(messages);
  expect(others).toEqual([]);
  // The generation prompt opens the first thought; the second answer has none.
  expect(answersOf(first!)).toEqual(['that was\n</think>\n\non the mat<|im_end|>']);
  expect(answersOf(second!)).toEqual(['the log<|im_end|>']);
  expect(tokenizer.decode([...second!.ids])).not.toContain('that was');
});

test('calls are learned as the template writes them', async () => {
  const format = await formatOf(TOOLS);
  const parameters = { type: 'object', properties: { x: { type: 'integer' } } };
  const tools = [{ type: 'function', function: { name: 'f', description: 'does', parameters } }];
  const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: '{"x": 1}' } };
  const messages = [
    MESSAGES[0]!,
    said('assistant', '', { tool_calls: [call] }),
    said('tool', 'done'),
    MESSAGES[1]!,
  ];
  const [learned] = await format.toLearn(messages, { tools });
  expect(answersOf(learned!)).toEqual([
    '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>',
    'on the mat<|im_end|>',
  ]);
  const { ids } = await format.withAnswer(messages.slice(0, 1), { tools });
  expect(learned!.ids.slice(0, ids.length)).toEqual(ids);
});

test('a long document in front of a question', async () => {
  const format = await formatOf(CHATML);
  const [learned] = await format.toLearn([said('user', 'the cat '.repeat(150_000)), MESSAGES[1]!]);
  expect(learned!.ids.length).toBeGreaterThan(300_000);
  expect(answersOf(learned!)).toEqual(['on the mat<|im_end|>']);
});

test('calls that the template does not write are refused', async () => {
  const format = await formatOf(CHATML);
  const call = { type: 'function', function: { name: 'f', arguments: '{}' } };
  const messages = [MESSAGES[0]!, said('assistant', '', { tool_calls: [call] })];
  await expect(format.toLearn(messages)).rejects.toThrow(
    'the chat template test writes no tool calls, and message 2 has some: they cannot be learned',
  );
});

test('a tokenizer that begins each text with a space adds none within a conversation', async () => {
  const spaced = spacedTokenizer([...'▁abcdefghijklmnopqrstuvwxyz[]/?INS']);
  const source = `{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} |{% endif %}{% endfor %}`;
  const template = new ChatTemplate({ sources: { default: source.replace(' |', '</s>') }, origin: 'test' });
  const format = await ConversationFormat.learn(template, spaced);
  const [learned] = await format.toLearn([said('user', 'the cat'), ...MESSAGES.slice(1)]);
  const text = '[INST] the cat [/INST] on the mat</s>[INST] and the dog [/INST] the log</s>';
  expect(learned!.ids).toEqual(spaced.encode(text));
  expect(learned!.answers.map(([from, to]) => spaced.decode(learned!.ids.slice(from, to)))).toEqual([
    ' on the mat</s>',
    ' the log</s>',
  ]);
});
