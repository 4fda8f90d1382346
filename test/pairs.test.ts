/** Pairs of texts on the command line: targets are learned from their sources; lines that are no pairs are refused with their number. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';
import { post, serve } from './testing/server.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-pairs-command-'));
beforeAll(build);
afterAll(() => rmSync(here, { recursive: true, force: true }));

function file(name: string, text: string): string {
  writeFileSync(join(here, name), text);
  return join(here, name);
}

const COLOURS = { red: 'rot', green: 'grün', blue: 'blau', black: 'schwarz' };
const THINGS = { house: 'Haus', car: 'Auto', book: 'Buch', bed: 'Bett', horse: 'Pferd', leaf: 'Blatt' };
const PAIRS = Object.entries(COLOURS).flatMap(([colour, farbe]) =>
  Object.entries(THINGS).map(([thing, ding]) => `the ${thing} is ${colour}\tDas ${ding} ist ${farbe}.`),
);

const train = (path: string, out: string, ...args: string[]) =>
  heddle([
    'train',
    path,
    '--out',
    join(here, out),
    '--size',
    'nano',
    '--vocab',
    '300',
    '--warmup',
    '5',
    '--threads',
    '1',
    ...args,
  ]);

test('targets are learned from sources, and generation ends after them', async () => {
  const pairs = file('pairs.tsv', `${PAIRS.join('\r\n')}\n\n`);
  const { code, stderr } = await train(pairs, 'run', '--steps', '120', '--validation', '0.1');
  expect(stderr).toMatch(/pairs\.tsv: 22 pairs to learn from, 2 held out; the longest has \d+ tokens/);
  const losses = [...stderr.matchAll(/validation loss ([\d.]+)/g)].map(([, loss]) => Number(loss));
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 4);
  expect(code).toBe(0);
  const said = await heddle([
    'generate',
    join(here, 'run'),
    '--prompt',
    'the horse is blue\t',
    '--temperature',
    '0',
  ]);
  expect(said.stdout).toMatch(/Das Pferd ist blau\.\s*$/);

  // A person asks with the source alone, from the command line, of a server, and in a chat.
  const alone = await heddle([
    'generate',
    join(here, 'run'),
    '--prompt',
    'the horse is blue',
    '--temperature',
    '0',
  ]);
  expect(alone.stdout).toBe(said.stdout);
  const server = await serve([join(here, 'run')]);
  try {
    const ask = async (path: string, body: object): Promise<{ choices: Record<string, unknown>[] }> => {
      const answer = await post(`${server.url}/v1/${path}`, { ...body, temperature: 0, max_tokens: 50 });
      return answer.json() as Promise<{ choices: Record<string, unknown>[] }>;
    };
    for (const prompt of ['the horse is blue', 'the horse is blue\t']) {
      const { choices } = await ask('completions', { prompt });
      expect(choices[0]!.text).toBe('Das Pferd ist blau.');
    }
    // A state is of what was written, which may go on.
    const made = await post(`${server.url}/v1/states`, { prompt: 'the horse is' });
    const { id: state } = (await made.json()) as { id: string };
    const after = await ask('completions', { state, prompt: ' blue\t' });
    expect(after.choices[0]!.text).toBe('Das Pferd ist blau.');
    const turn = [
      { role: 'user', content: 'the car is red' },
      { role: 'assistant', content: 'Das Auto ist rot.' },
    ];
    const { choices } = await ask('chat/completions', {
      messages: [...turn, { role: 'user', content: 'the horse is blue' }],
    });
    expect((choices[0]!.message as { content: string }).content).toBe('Das Pferd ist blau.');
  } finally {
    await server.stop();
  }
});

test('a model that was trained further is prompted in the form of its last data', async () => {
  const pairs = file('other.tsv', PAIRS.join('\n'));
  const words = file(
    'words.txt',
    'The heddle lifts the chosen threads, and the weft goes under them. '.repeat(80),
  );
  const template = (out: string): string | undefined => {
    const path = join(here, out, 'checkpoint', 'chat_template.jinja');
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  };
  const further = (path: string, out: string, from: string, ...args: string[]) =>
    heddle([
      'train',
      path,
      '--out',
      join(here, out),
      '--from',
      join(here, from),
      '--steps',
      '1',
      '--threads',
      '1',
      ...args,
    ]);
  const { stderr } = await train(pairs, 'of pairs', '--steps', '1');
  expect(template('of pairs'), stderr).toMatch(/^\{# heddle: pairs #\}/);
  await further(words, 'of words', 'of pairs');
  expect(existsSync(join(here, 'of words', 'checkpoint', 'tokenizer.json'))).toBe(true);
  expect(template('of words')).toBeUndefined();
  await further(pairs, 'still of pairs', 'of pairs');
  expect(template('still of pairs')).toBe(template('of pairs'));
  // A chat's template, which another trainer wrote, stays with words and gives way to pairs.
  const chat = join(here, 'of words', 'checkpoint', 'chat_template.jinja');
  writeFileSync(chat, '{{ messages[-1].content }}');
  await further(words, 'of chats', 'of words');
  expect(template('of chats')).toBe('{{ messages[-1].content }}');
  await further(pairs, 'of pairs again', 'of words');
  expect(template('of pairs again')).toBe(template('of pairs'));

  // An adapter has the template of what it learned; that of its model stays as it is.
  const continued = async (of: string, ...adapter: string[]): Promise<string> => {
    const greedy = ['--temperature', '0', '--max-tokens', '3', '--prompt', 'the car is red'];
    return (await heddle(['generate', join(here, of), ...adapter, ...greedy])).stdout;
  };
  await further(pairs, 'adapter to pairs', 'of words', '--lora', '2');
  expect(template('adapter to pairs')).toBe(template('of pairs'));
  expect(await continued('of words')).not.toContain('\t');
  expect(await continued('of words', '--adapter', join(here, 'adapter to pairs'))).toMatch(
    /^the car is red\t/,
  );
  await further(words, 'adapter to words', 'of pairs', '--lora', '2');
  expect(await continued('of pairs')).toMatch(/^the car is red\t/);
  expect(await continued('of pairs', '--adapter', join(here, 'adapter to words'))).not.toContain('\t');
  await heddle(['merge', ...['of words', 'adapter to pairs', 'merged'].map((name) => join(here, name))]);
  expect(await continued('merged')).toMatch(/^the car is red\t/);
});

test('examples in JSON are conversations, whose answers are learned', async () => {
  const examples = PAIRS.map((pair) => {
    const [prompt, completion] = pair.split('\t');
    return JSON.stringify({ prompt, completion });
  });
  const chats = file('chats.jsonl', examples.join('\n'));
  const { code, stderr } = await train(chats, 'chat', '--steps', '150', '--validation', '0.1');
  expect(stderr).toMatch(
    /chats\.jsonl: 22 conversations to learn from, 2 held out; the longest has \d+ tokens/,
  );
  expect(stderr).toMatch(/next: .* chat \S+chat\/checkpoint\n$/);
  expect(code).toBe(0);
  const asked = ['dist/cli/main.js', 'chat', join(here, 'chat'), '--temperature', '0'];
  const said = spawnSync(process.execPath, asked, { input: 'the horse is blue\n', encoding: 'utf8' });
  expect(said.stdout, said.stderr).toMatch(/^Das Pferd ist blau\.\s*$/);
  const measured = await heddle(['evaluate', join(here, 'chat'), chats, '--validation', '0.1']);
  const last = [...stderr.matchAll(/validation loss ([\d.]+)/g)].at(-1)![1];
  expect(measured.stdout).toContain(`(${last} nats/token)`);

  // A model keeps its own chat template, which writes the conversations then.
  const template = join(here, 'chat', 'checkpoint', 'chat_template.jinja');
  writeFileSync(template, '{% for message in messages %}{{ message.content }}|{% endfor %}');
  const from = ['--from', join(here, 'chat'), '--out', join(here, 'further'), '--steps', '1'];
  const further = await heddle(['train', chats, ...from, '--threads', '1']);
  expect(further.code, further.stderr).toBe(0);
  expect(readFileSync(join(here, 'further', 'checkpoint', 'chat_template.jinja'), 'utf8')).toMatch(
    /^\{% for message in messages %\}\{\{ message\.content/,
  );

  const texts = file('texts.jsonl', PAIRS.map((text) => JSON.stringify({ text })).join('\n'));
  const read = await train(texts, 'texts', '--steps', '1', '--documents', 'pack', '--sequence', '32');
  expect(read.stderr).toMatch(/tokens in 23 documents to learn from/);
  const packed = await train(chats, 'packed', '--documents', 'pack');
  expect(packed.stderr).toMatch(
    /--documents cuts a corpus, and .*chats\.jsonl has conversations: leave it out/,
  );
  const other = await train(file('other.json', '{"a": 1}'), 'other');
  expect(other.stderr).toMatch(/other\.json, line 1 has the keys 'a': expected 'text', 'messages'/);
});

test('a header line, and held-out pairs that are also trained on, are reported', async () => {
  const names = file('names.tsv', `Source\tTarget\n${PAIRS.join('\n')}\n`);
  const first = await train(names, 'names', '--steps', '1');
  expect(first.stderr).toMatch(
    /names\.tsv, line 1: 'Source' and 'Target' look like the names of columns, and are learned as a pair: delete the line/,
  );
  expect(first.stderr).not.toMatch(/also among/);
  const twice = file('twice.tsv', [...PAIRS, ...PAIRS].join('\n'));
  const second = await train(
    twice,
    'twice',
    '--steps',
    '1',
    '--design',
    'encoder-decoder',
    '--validation',
    '0.1',
  );
  expect(second.stderr).toMatch(/[1-5] of 5 held-out pairs (is|are) also among those to learn from/);
  expect(second.stderr).not.toMatch(/names of columns/);
});

test('an encoder reads sources, and texts are generated about images', async () => {
  const pairs = file('encoded.tsv', PAIRS.join('\n'));
  const texts = await train(pairs, 'encoded', '--steps', '2', '--design', 'encoder-decoder');
  expect(texts.stderr).toMatch(/model {7}\(\*X-\)x3/);
  expect((await heddle(['info', join(here, 'encoded')])).stdout).toMatch(
    /source {3}reads texts of up to \d+ tokens: \d+ positions through <\*>-<\*>-<\*>-; X attends over it/,
  );
  const answer = ['generate', join(here, 'encoded'), '--max-tokens', '2'];
  const told = await heddle([...answer, '--source', 'the car is red']);
  expect(told.stderr).toMatch(/^read a source of \d+ tokens in [\d.]+ s, wrote /);
  // A word that was never seen has more tokens.
  expect((await heddle([...answer, '--source', 'The dog is red'])).code).toBe(0);
  expect((await heddle([...answer, '--prompt', 'the car is red'])).stderr).toMatch(
    /give it one with --source/,
  );

  const lines = Array.from({ length: 40 }, (_, i) => {
    const data = Uint8Array.from({ length: 16 }, (_, at) => (at % 4 < 2 === (i % 2 === 0) ? 200 : i));
    writeFileSync(join(here, `${i}.png`), encode({ width: 4, height: 4, data, channels: 1, depth: 8 }));
    return `${i}.png\twhere is it bright?\ton the ${i % 2 === 0 ? 'left' : 'right'}`;
  });
  const captions = file('captions.tsv', lines.join('\n'));
  const run = await train(captions, 'captions', '--steps', '50', '--patch', '2', '--learning-rate', '0.005');
  expect(run.stderr).toMatch(/38 texts about images of 4 x 4 pixels to learn from, 2 held out/);
  for (const [i, side] of ['left', 'right'].entries()) {
    const args = [
      '--source',
      join(here, `${i}.png`),
      '--prompt',
      'where is it bright?',
      '--temperature',
      '0',
    ];
    expect((await heddle(['generate', join(here, 'captions'), ...args])).stdout).toMatch(
      new RegExp(`where is it bright\\?\\ton the ${side}\\s*$`),
    );
  }
  const from = await train(captions, 'other', '--from', join(here, 'encoded'));
  expect(from.code).not.toBe(0);
});

test.each([
  ['0.png\ta\nnothing\tb', /line 2: the source is none of the images, and in line 1 it is one/],
  ['0.png\ta\nnone.png\tb', /line 2: .*none\.png cannot be read/],
  ['0.png\ta\n0.png\t\tb', /line 2: the prompt is empty/],
  ['0.png\ta\n0.png', /line 2 has no tab: expected a source, a tab and a target, or a prompt between them/],
  ['0.png\ta', /has 1 pair: expected two/],
  ['x.wav\ta\ny.wav\tb', /line 1: .*x\.wav cannot be read/],
])('%j as pairs of files and texts is refused, and writes nothing', async (text, message) => {
  writeFileSync(
    join(here, '0.png'),
    encode({ width: 4, height: 4, data: new Uint8Array(16), channels: 1, depth: 8 }),
  );
  const { code, stderr } = await train(file('files.tsv', text), 'none', '--steps', '1');
  expect(stderr).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(join(here, 'none'))).toBe(false);
});

test.each([
  ['a\tb\n\tc\n', /x\.tsv, line 2: the source is empty/],
  ['a\tb\nc\t \n', /x\.tsv, line 2: the target is empty/],
  ['a\tb\n\t\n', /x\.tsv, line 2: both sides of the pair are empty/],
  ['a\tb\n\nc d\n', /x\.tsv, line 3 has no tab: expected a source, a tab and a target/],
  ['a\tb\tc\n', /x\.tsv, line 1 has 3 columns/],
  ['a\tb\n', /x\.tsv has 1 pair: expected two at least/],
  ['', /x\.tsv has 0 pairs/],
])('%j is refused, and writes nothing', async (text, message) => {
  const { code, stderr } = await train(file('x.tsv', text), 'none', '--steps', '1');
  expect(stderr).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(join(here, 'none'))).toBe(false);
});

test('a pair that is longer than a sequence is refused', async () => {
  const { code, stderr } = await train(
    file('long.tsv', PAIRS.join('\n')),
    'long',
    '--steps',
    '1',
    '--sequence',
    '5',
  );
  expect(stderr).toMatch(/a pair has \d+ tokens, and a sequence 6: use a longer --sequence/);
  expect(code).toBe(1);
});
