/** What an answer cites is compared with what it was given; summaries come of parts. The archive and the model are played. */
import { expect, test } from 'vitest';
import type { ChatMessage } from '../text/index.js';
import type { Archive } from './archive.js';
import { ask } from './ask.js';
import type { AskEvent, DocumentEntry, PageRecord } from './entries.js';
import type { AnswerRequest, ArchiveModel } from './model.js';
import { summarize } from './summary.js';

/** What the template writes around messages. */
const TEMPLATE = '<|user|>'.repeat(8);

/** A model that gives these answers, in pieces, and keeps what it was asked. */
class Scripted implements ArchiveModel {
  readonly name = 'scripted';
  readonly key = 'scripted';
  readonly asked: AnswerRequest[] = [];

  constructor(
    private readonly answers: readonly string[],
    readonly instructs = true,
    readonly context = 4000,
    readonly positions?: number,
  ) {}

  async count(prompts: readonly (string | readonly ChatMessage[])[]): Promise<number[]> {
    return prompts.map((prompt) => {
      const text =
        typeof prompt === 'string' ? prompt : TEMPLATE + prompt.map(({ content }) => content).join('');
      // Other scripts have more tokens a character.
      return Math.ceil(Buffer.byteLength(text) / 4);
    });
  }

  async embed(): Promise<Float32Array> {
    return new Float32Array(4);
  }

  async *answer(request: AnswerRequest): AsyncGenerator<string, void> {
    this.asked.push(request);
    yield* this.answers[Math.min(this.asked.length, this.answers.length) - 1]!.split(/(?<= )/);
  }
}

const PAGES = Array.from({ length: 12 }, (_, i): PageRecord => {
  return {
    page: i + 1,
    state: 'read',
    why: null,
    width: 600,
    height: 800,
    text: `Page ${i + 1} tells of herons and frogs. `.repeat(10),
  };
});
const archive = {
  pages: async (_: string, first: number, last: number) => PAGES.slice(first - 1, last),
} as unknown as Archive;
const document: DocumentEntry = {
  content: 'abc',
  name: 'birds.pdf',
  format: 'pdf',
  pages: 12,
  state: 'read',
  why: null,
  paths: ['/birds.pdf'],
  counts: { read: 12 },
  readings: [{ model: 'scripted', state: 'read', why: null, tokens: 9, page: 12, record: 'state-1' }],
};

async function eventsOf(events: AsyncGenerator<AskEvent>): Promise<AskEvent[]> {
  const all: AskEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

test('an answer from a state cites its pages, and what is not there or says something else is told', async () => {
  const model = new Scripted([
    'Herons eat frogs [page 3]. Submarines dive deep in winter [page 4]. And more [page 99] [2].',
  ]);
  const events = await eventsOf(
    ask(archive, model, { text: 'What do herons eat?', documents: [document], from: 'state' }),
  );
  expect(model.asked[0]!.state).toBe('state-1');
  expect(events.filter(({ kind }) => kind === 'text').length).toBeGreaterThan(5);
  expect(events.at(-1)).toEqual({
    kind: 'end',
    citations: [
      { mark: '[page 3]', content: 'abc', path: '/birds.pdf', page: 3, supported: true },
      { mark: '[page 4]', content: 'abc', path: '/birds.pdf', page: 4, supported: false },
    ],
    unknown: ['[page 99]', '[2]'],
  });
});

test('a state is asked for that there is not', async () => {
  const unread = { ...document, readings: [] };
  const model = new Scripted(['']);
  await expect(
    eventsOf(ask(archive, model, { text: 'What?', documents: [unread], from: 'state' })),
  ).rejects.toThrow(/has not read birds.pdf/);
  await expect(eventsOf(ask(archive, model, { text: 'What?', from: 'state' }))).rejects.toThrow(
    /in which document/,
  );
});

test('a summary is made of all parts, and then of theirs', async () => {
  const answers = Array.from({ length: 9 }, (_, i) => `Summary ${i + 1}.`);
  const model = new Scripted(answers, true, 1000);
  const texts: string[] = [];
  const levels: string[] = [];
  for await (const event of summarize(archive, model, document, { maxTokens: 100, partTokens: 300 })) {
    if (event.kind === 'text') texts.push(event.text);
    else levels.push(`${event.level}: ${event.done} of ${event.of}`);
  }
  // Every page went in once.
  const read = model.asked
    .map(({ messages }) => String(messages[0]!.content))
    .filter((text) => text.includes('herons'));
  for (const { page } of PAGES)
    expect(read.filter((text) => text.includes(`[page ${page}]\n`)).length).toBe(1);
  expect(levels[0]).toBe(`1: 0 of ${read.length}`);
  expect(levels.at(-1)).toMatch(/^2: 0 of 1$/);
  expect(texts.join('')).toBe(answers[read.length]);
  expect(read.length).toBeGreaterThan(2);
});

test('a state of more tokens than the model was made for is asked all the same, and it is told', async () => {
  const long = { ...document, readings: [{ ...document.readings[0]!, tokens: 5000 }] };
  const question = { text: 'What do herons eat?', documents: [long], from: 'state' as const };
  const notices = async (positions: number): Promise<AskEvent[]> => {
    const events = await eventsOf(
      ask(archive, new Scripted(['Frogs [page 3].'], true, 4000, positions), question),
    );
    return events.filter(({ kind }) => kind === 'notice');
  };
  expect(await notices(4096)).toEqual([
    { kind: 'notice', text: expect.stringMatching(/birds.pdf has 5,000 tokens.*4,096/) },
  ]);
  expect(await notices(8192)).toEqual([]);
});

test.each([
  ['a small context', 512, 'heron '],
  ['a smaller one', 300, 'heron '],
  ['another script', 600, '\u82cd\u9e6d'],
])('a summary fits into %s', async (_, context, word) => {
  const model = new Scripted(['word '.repeat(60)], true, context);
  const pages = [{ ...PAGES[0]!, text: word.repeat(600) }];
  const long = { pages: async (_: string, first: number) => (first === 1 ? pages : []) };
  for await (const _ of summarize(long as unknown as Archive, model, { ...document, pages: 1 }));
  expect(model.asked.length).toBeGreaterThan(3);
  for (const { messages, maxTokens } of model.asked) {
    expect((await model.count([messages]))[0]! + maxTokens).toBeLessThanOrEqual(context);
  }
  const tiny = summarize(archive, new Scripted([''], true, 60), document);
  await expect(tiny.next()).rejects.toThrow(/no room/);
});

test('a summary is refused by a model that follows no instructions', async () => {
  const events = summarize(archive, new Scripted([''], false), document);
  await expect(events.next()).rejects.toThrow(/no chat template/);
});
