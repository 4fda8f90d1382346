/** Examples in JSON, in the forms in which data sets come. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { type JsonExamples, readJsonExamples } from './json-examples.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heddle-examples-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(text: string, name = 'examples.jsonl'): Promise<JsonExamples> {
  const path = join(folder, name);
  await writeFile(path, text);
  return readJsonExamples(path);
}

const asked = { role: 'user', content: 'q' };
const answered = { role: 'assistant', content: 'a' };
const pair = [asked, answered];
const told = { role: 'system', content: 's' };

test.each([
  ['messages', { messages: [told, ...pair] }, [told, ...pair]],
  ['messages with their rendered text', { messages: pair, text: 'q a' }, pair],
  [
    'ShareGPT',
    {
      id: 7,
      conversations: [
        { from: 'human', value: 'q' },
        { from: 'gpt', value: 'a' },
      ],
    },
    pair,
  ],
  ['ShareGPT with roles', { conversation: pair }, pair],
  ['a prompt and its completion', { prompt: 'q', completion: 'a' }, pair],
  ['messages as prompt and completion', { prompt: [told, asked], completion: [answered] }, [told, ...pair]],
  ['a question with a system text', { system: 's', question: 'q', response: 'a' }, [told, ...pair]],
  ['Alpaca', { instruction: 'q', input: '', output: 'a', text: 'q a' }, pair],
  [
    'Alpaca with an input',
    { instruction: 'q', input: 'i', output: 'a' },
    [{ role: 'user', content: 'q\n\ni' }, answered],
  ],
  ['a system text beside messages', { conversations: pair, system_prompt: 's' }, [told, ...pair]],
  ['a system text in both places', { messages: [told, ...pair], system: 'x' }, [told, ...pair]],
  [
    'parts of text',
    {
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'q' }] },
        { ...answered, content: ['a'] },
      ],
    },
    pair,
  ],
  ['earlier turns', { instruction: 'q', output: 'a', history: [['q', 'a']] }, [...pair, ...pair]],
  [
    'a prompt with an example',
    { prompt: [...pair, asked], completion: 'a' },
    [asked, { ...answered, weight: 0 }, ...pair],
  ],
  [
    'a question about a context',
    { context: 'c', question: 'q', answer: 'a' },
    [{ role: 'user', content: 'q\n\nc' }, answered],
  ],
  [
    'Dolly',
    { instruction: 'q', context: 'c', response: 'a', category: 'x' },
    [{ role: 'user', content: 'q\n\nc' }, answered],
  ],
])('%s', async (_, example, messages) => {
  const place = expect.any(String);
  const expected = {
    kind: 'conversations',
    conversations: [
      { place, messages },
      { place, messages },
    ],
  };
  const lines = `\ufeff${JSON.stringify(example)}\r\n\r\n${JSON.stringify(example)}\r\n`;
  expect(await read(lines)).toEqual(expected);
  expect(await read(JSON.stringify([example, example], null, 2), 'examples.json')).toEqual(expected);
});

test('texts, of which blank ones are left out', async () => {
  const lines = ['one', ' ', 'two'].map((text) => JSON.stringify({ text, source: 'web' })).join('\n');
  expect(await read(lines)).toEqual({ kind: 'texts', texts: ['one', 'two'] });
});

test('tools and calls are kept', async () => {
  const call = {
    role: 'assistant',
    tool_calls: [{ type: 'function', function: { name: 'f', arguments: '{}' } }],
  };
  const found = await read(JSON.stringify({ messages: [asked, call], tools: [{ type: 'function' }] }));
  const messages = [asked, { ...call, content: '' }];
  expect(found).toEqual({
    kind: 'conversations',
    conversations: [{ place: expect.any(String), messages, tools: [{ type: 'function' }] }],
  });
});

test('tools as JSON text, and calls and functions in the older form', async () => {
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const call = { role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } };
  const result = { role: 'function', name: 'f', content: 'r' };
  const calls = [{ type: 'function', function: { name: 'f', arguments: '{}' } }];
  for (const given of [{ tools: JSON.stringify(tools) }, { tools: '', functions: [{ name: 'f' }] }])
    expect(await read(JSON.stringify({ messages: [asked, call, result], ...given }))).toMatchObject({
      conversations: [{ tools, messages: [asked, { tool_calls: calls }, { role: 'tool', content: 'r' }] }],
    });
});

test.each([
  ['', /has no examples: expected a list of objects, or one object a line/],
  ['[]', /has no examples/],
  ['{\n "data": []\n}', /line 1 is not JSON/],
  ['[1]', /entry 1 is no object/],
  ['{"text":"a"}\n"b"', /line 2 is no object/],
  ['{"a":1}', /line 1 has the keys 'a': expected 'text', 'messages', .* name the file \.txt/],
  ['{"prompt":"x","chosen":"a","rejected":"b"}', /has the keys 'prompt', 'chosen', 'rejected'/],
  ['{"text":"a"}\n{"messages":[]}', /line 2 is no text, as .*line 1 is/],
  ['{"messages":[]}\n{"text":"a"}', /line 1 is no text, as .*line 2 is/],
  [
    '{"messages":[{"role":"assistant","content":"x","weight":0}]}',
    /no message of the assistant that is learned/,
  ],
  [
    '{"messages":[{"role":"assistant","content":"x","weight":0.5}]}',
    /message 1 has the weight 0.5: expected 0 or 1/,
  ],
  [
    '{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}',
    /message 1 has a content that is no text/,
  ],
  [
    '{"messages":[{"from":"function_call","value":"{}"}]}',
    /message 1 is a call: expected it in the 'tool_calls'/,
  ],
  ['{"prompt":"x","answer":"y","tools":"f"}', /'tools' is not JSON .*expected a list of tools/],
  ['{"prompt":"x","answer":"y","tools":{}}', /expected a list of tools, or its JSON text/],
  ['{"prompt":"x","answer":"y","history":["z"]}', /expected a history of pairs/],
  ['{"text":" "}', /all of them are blank/],
  ['{"messages":[{"role":"user","content":"x"}]}', /line 1 has no message of the assistant/],
  ['{"messages":"x"}', /line 1: expected a list of messages/],
  ['{"messages":[5]}', /line 1, message 1 is no object/],
  ['{"messages":[{"content":"x"}]}', /message 1 has no role: expected 'role', or 'from'/],
  ['{"messages":[{"role":"assistant"}]}', /message 1 has no content/],
])('%j is refused', async (text, words) => {
  await expect(read(text)).rejects.toThrow(DataError);
  await expect(read(text)).rejects.toThrow(words);
});
