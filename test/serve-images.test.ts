/** Images in a chat: the server, the library and the terminal give the same answers, and refuse what they do not read. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { encode } from 'fast-png';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ChatSession, ConfigError, DataError, loadModel, readImage } from '../src/index.js';
import { build } from './testing/heddle.js';
import { type Served, serve, writeTinyModel } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-images-'));
const at = (name: string): string => join(root, name);
for (const [name, bright] of [
  ['left.png', true],
  ['right.png', false],
] as const) {
  const data = Uint8Array.from({ length: 24 }, (_, i) => (i % 6 < 3 === bright ? 250 : 5));
  writeFileSync(at(name), encode({ width: 6, height: 4, data, channels: 1, depth: 8 }));
}
let served: Served;
let openai: OpenAI;

beforeAll(async () => {
  build();
  const source = { kind: 'images' as const, height: 4, width: 6, channels: 1 as const, patch: 2 };
  await writeTinyModel(at('seeing'), { seed: 5, change: { source } });
  await writeTinyModel(at('blind'));
  served = await serve([at('seeing'), at('blind'), '--data', at('data'), '--threads', '1']);
  openai = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  expect(await served.stop()).toBe(0);
  rmSync(root, { recursive: true, force: true });
});

const urlOf = (name: string): string => `data:image/png;base64,${readFileSync(at(name)).toString('base64')}`;
const image = (name: string) => ({ type: 'image_url' as const, image_url: { url: urlOf(name) } });
const about = (name: string, question = 'where') => ({
  role: 'user' as const,
  content: [image(name), { type: 'text' as const, text: question }],
});
const settings = { model: 'seeing', temperature: 0, max_tokens: 8 };

test("every turn's answer about an image equals the library's", async () => {
  const model = await loadModel(at('seeing'), { threads: 1 });
  const chat = (await ChatSession.open(model, at('seeing'), { lines: true }))!;
  const said = async (words: string): Promise<string> => {
    let answer = '';
    for await (const piece of chat.say(words, { temperature: 0, maxTokens: 8 })) answer += piece.text;
    return answer;
  };
  await expect(said('where')).rejects.toThrow(DataError);
  const answers: string[] = [];
  for (const name of ['left.png', 'right.png', 'left.png']) {
    await chat.show(await readImage(at(name)));
    const own = await said('where');
    answers.push(own);
    const whole = await openai.chat.completions.create({ ...settings, messages: [about(name)] });
    expect(whole.choices[0]!.message.content).toBe(own);
    // Six patches stand for the image, and one token begins the text.
    expect(whole.usage!.prompt_tokens).toBe(7 + model.tokenizer.encode('where\t').length);
    const session = model.session();
    await session.readSource(await readImage(at(name)));
    await session.read('where\t');
    expect(chat.tokens.slice(0, session.tokens.length)).toEqual(session.tokens);
    session.dispose();
    const messages = [
      about(name),
      { role: 'assistant' as const, content: own },
      { role: 'user' as const, content: 'and now' },
    ];
    const next = await openai.chat.completions.create({ ...settings, messages });
    expect(next.choices[0]!.message.content).toBe(await said('and now'));
  }
  expect(answers[0]).not.toBe(answers[1]);
  expect(answers[2]).toBe(answers[0]);
  chat.dispose();
  const blind = await loadModel(at('blind'), { threads: 1 });
  const other = (await ChatSession.open(blind, at('blind'), { lines: true }))!;
  await expect(other.show(await readImage(at('left.png')))).rejects.toThrow(ConfigError);
  other.dispose();
  await Promise.all([model.dispose(), blind.dispose()]);
});

test('images in the forms of other clients, in streams and in the Responses API', async () => {
  const { choices } = await openai.chat.completions.create({ ...settings, messages: [about('left.png')] });
  const wanted = choices[0]!.message.content!;
  const base64 = readFileSync(at('left.png')).toString('base64');
  for (const part of [
    { type: 'image_url', image_url: urlOf('left.png') },
    { type: 'input_image', image_url: urlOf('left.png'), detail: 'auto' },
    { type: 'image', source: { type: 'base64', media_type: 'image/png', data: base64 } },
  ]) {
    const messages = [{ role: 'user', content: [{ type: 'text', text: 'where' }, part] }];
    const { choices } = await openai.chat.completions.create({ ...settings, messages } as never);
    expect((choices as { message: { content: string } }[])[0]!.message.content).toBe(wanted);
  }
  const stream = await openai.chat.completions.create({
    ...settings,
    messages: [about('left.png')],
    stream: true,
  });
  let streamed = '';
  for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? '';
  expect(streamed).toBe(wanted);
  const response = await openai.responses.create({
    model: 'seeing',
    temperature: 0,
    max_output_tokens: 8,
    input: [
      {
        role: 'user',
        content: [
          { type: 'input_image', image_url: urlOf('left.png'), detail: 'auto' },
          { type: 'input_text', text: 'where' },
        ],
      },
    ],
  });
  expect(response.output_text).toBe(wanted);
  const listed = await openai.responses.inputItems.list(response.id);
  expect(JSON.stringify(listed.data)).toContain('input_image');
  const { heddle } = (await openai.models.retrieve('seeing')) as unknown as { heddle: { images: boolean } };
  expect(heddle.images).toBe(true);
});

test('a refused image is named by its path in this request, not in an earlier one', async () => {
  const said = { type: 'input_text' as const, text: 'before' };
  const shown = { type: 'input_image' as const, image_url: urlOf('left.png'), detail: 'auto' as const };
  const refusal = async (request: object): Promise<unknown> => {
    const asked = openai.responses.create({ model: 'blind', ...request } as never);
    return asked.then(
      () => 'answered',
      ({ code, param }: { code: string; param: string }) => [code, param],
    );
  };
  const first = await openai.responses.create({
    model: 'seeing',
    max_output_tokens: 1,
    input: [{ role: 'user', content: [said, shown] }],
  });
  expect(await refusal({ previous_response_id: first.id, input: 'and now' })).toEqual([
    'images_not_supported',
    'previous_response_id',
  ]);
  expect(await refusal({ input: [{ role: 'user', content: [said, shown] }] })).toEqual([
    'images_not_supported',
    'input.0.content.1',
  ]);
});

const showing = (url: string) => [
  {
    role: 'user',
    content: [
      { type: 'image_url', image_url: { url } },
      { type: 'text', text: 'where' },
    ],
  },
];

test.each([
  [
    'a model of text',
    { model: 'blind', messages: [about('left.png')] },
    'images_not_supported',
    /text alone/,
  ],
  ['no image', { messages: [{ role: 'user', content: 'where' }] }, 'image_required', /image_url/],
  ['an address elsewhere', { messages: showing('https://x.example/a.png') }, 'image_not_fetched', /data:/],
  ['a file', { messages: showing('file:///etc/hostname') }, 'image_not_fetched', /data:/],
  ['no address', { messages: showing('a.png') }, 'image_not_fetched', /data:/],
  ['no base64', { messages: showing('data:image/png;base64,') }, 'invalid_value', /base64/],
  ['a broken image', { messages: showing('data:image/png;base64,iVBORw0KGgo=') }, 'invalid_prompt', /broken/],
  [
    'another format',
    { messages: showing('data:image/gif;base64,R0lGODlh') },
    'invalid_prompt',
    /PNG or JPEG/,
  ],
  ['two images', { messages: [about('left.png'), about('right.png')] }, 'invalid_value', /more than one/],
  [
    'an image too late',
    { messages: [{ role: 'user', content: 'a' }, about('left.png')] },
    'invalid_value',
    /first user message/,
  ],
  ['a state', { messages: [about('left.png')], save_state: true }, 'invalid_value', /states are of texts/],
  [
    'an image of the system',
    { messages: [{ role: 'system', content: [image('left.png')] }, about('left.png')] },
    'invalid_value',
    /an image/,
  ],
  [
    'an empty part',
    { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
    'invalid_value',
    /image_url/,
  ],
  ['sounds', { messages: [{ role: 'user', content: [{ type: 'input_audio' }] }] }, 'invalid_value', /audio/],
])('refused: %s', async (_, change, code, message) => {
  const asked = openai.chat.completions.create({ ...settings, ...change } as never);
  await expect(asked).rejects.toMatchObject({ status: 400, code });
  await expect(asked).rejects.toThrow(message);
});

test("a large image gives the library's answer; one that is too large or damaged is refused", async () => {
  const [width, height] = [900, 600];
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i % 2700 < 1350 ? 240 : i % 90));
  const large = encode({ width, height, data, channels: 3, depth: 8 });
  writeFileSync(at('large.png'), large);
  const model = await loadModel(at('seeing'), { threads: 1 });
  const chat = (await ChatSession.open(model, at('seeing'), { lines: true }))!;
  await chat.show(await readImage(at('large.png')));
  let own = '';
  for await (const { text } of chat.say('where', { temperature: 0, maxTokens: 8 })) own += text;
  chat.dispose();
  await model.dispose();
  const whole = await openai.chat.completions.create({ ...settings, messages: [about('large.png')] });
  expect(whole.choices[0]!.message.content).toBe(own);
  writeFileSync(at('broken.png'), large.subarray(0, large.length - 40));
  const said = large.slice();
  new DataView(said.buffer, said.byteOffset).setUint32(16, 60_000);
  writeFileSync(at('huge.png'), said);
  for (const [name, message] of [
    ['broken.png', /the image is broken/],
    ['huge.png', /36 megapixels, and at most 25 are read/],
  ] as const) {
    const asked = openai.chat.completions.create({ ...settings, messages: [about(name)] });
    await expect(asked).rejects.toMatchObject({ status: 400, code: 'invalid_prompt' });
    await expect(asked).rejects.toThrow(message);
  }
});

test('other endpoints name the one to use', async () => {
  const asked = openai.completions.create({ ...settings, prompt: 'where' });
  await expect(asked).rejects.toMatchObject({ status: 400, code: 'invalid_prompt' });
  await expect(asked).rejects.toThrow(/chat\/completions/);
});

test.each([
  ['/v1/states', {}],
  ['/studio/api/trace', { options: {} }],
])('%s refuses images', async (path, more) => {
  const body = JSON.stringify({ model: 'blind', messages: [about('left.png')], ...more });
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${served.url}${path}`, { method: 'POST', headers, body });
  expect(answer.status).toBe(400);
  expect((await answer.json()).error).toMatchObject({
    code: 'images_not_supported',
    param: 'messages.0.content.0',
  });
});

test('chat in a terminal takes one image after another', async () => {
  const args = ['dist/cli/main.js', 'chat', at('seeing'), '--temperature', '0', '--max-tokens', '8'];
  const child = spawn(process.execPath, [...args, '--source', at('left.png'), '--threads', '1']);
  child.stdin.end(
    `where\n/source ${at('right.png')}\nwhere\n/source ${at('none.png')}\n/source ${at('left.png')}\nwhere\n`,
  );
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  expect(err).toMatch(/none\.png cannot be read/);
  const answer = async (name: string): Promise<string> =>
    (await openai.chat.completions.create({ ...settings, messages: [about(name)] })).choices[0]!.message
      .content!;
  const [left, right] = [await answer('left.png'), await answer('right.png')];
  expect(out).toBe(`${left}\n${right}\n${left}\n`);
});
