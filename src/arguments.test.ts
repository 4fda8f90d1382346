/** What JavaScript callers give wrongly is refused in words, by the functions that they call first. */
import { afterAll, expect, test } from 'vitest';
import { openDevice } from './engine/index.js';
import { DataError } from './errors.js';
import { ChatSession, LanguageModel, loadModel, loadSnapshot, PrefixCache } from './generate/index.js';
import {
  checkpointFolder,
  hybridModel,
  modelFolder,
  modelFromConfig,
  planExport,
  readModel,
} from './models/index.js';
import { tinyConfig, tinyWeights } from './models/testing/tiny.js';
import { createApp } from './server/index.js';
import { ChatTemplate, Tokenizer, trainBpe } from './text/index.js';
import { tinyTokenizer } from './text/testing/tiny.js';
import { train } from './train/index.js';

const device = await openDevice('cpu', { threads: 1 });
const layers = hybridModel(tinyConfig());
const model = await LanguageModel.compile(layers, tinyWeights(layers), tinyTokenizer, device);
const chat = (): ChatSession => new ChatSession(model, undefined);
const session = model.session();
await session.read([1, 2]);
const snapshot = await session.snapshot();
const { tokenizer } = model;
afterAll(async () => {
  snapshot.dispose();
  session.dispose();
  await model.dispose();
  await device.dispose();
});

/** Calls by name, each with one wrong value. */
const CALLS: Readonly<Record<string, (wrong: never) => unknown>> = {
  'loadModel, a name': (wrong) => loadModel(wrong),
  'loadSnapshot, a path': (wrong) => loadSnapshot(wrong, model),
  'modelFolder, a name': (wrong) => modelFolder(wrong),
  'checkpointFolder, a path': (wrong) => checkpointFolder(wrong),
  'readModel, a path': (wrong) => readModel(wrong),
  'Tokenizer.load, a path': (wrong) => Tokenizer.load(wrong),
  'ChatTemplate.load, a path': (wrong) => ChatTemplate.load(wrong),
  'ChatSession.open, a name': (wrong) => ChatSession.open(model, wrong),
  'snapshot.save, a path': (wrong) => snapshot.save(wrong),
  'tokenizer.encode, a text': (wrong) => tokenizer.encode(wrong),
  'tokenizer.decode, tokens': (wrong) => tokenizer.decode(wrong),
  'new Tokenizer, files': (wrong) => new Tokenizer(wrong),
  'session.read, tokens': (wrong) => session.read(wrong),
  'session.readEach, tokens': (wrong) => session.readEach(wrong),
  'model.logits, lists of tokens': (wrong) => model.logits(wrong),
  'model.embed, tokens': (wrong) => model.embed(wrong),
  'model.trace, tokens': (wrong) => model.trace(wrong),
  'chat.say, a text': (wrong) => chat().say(wrong).next(),
  'chat.answer, messages': (wrong) => chat().answer(wrong).next(),
  'chat.encode, messages': (wrong) => chat().encode(wrong),
  'chat.tell, results': (wrong) => chat().tell(wrong).next(),
  'new PrefixCache, options': (wrong) => new PrefixCache(model, wrong),
  'ChatSession.open, a model': (wrong) => ChatSession.open(wrong, 'sotu-hybrid'),
  'new ChatSession, a model': (wrong) => new ChatSession(wrong, undefined),
  'hybridModel, a config': (wrong) => hybridModel(wrong),
  'modelFromConfig, a config': (wrong) => modelFromConfig(wrong, 'config.json'),
  'trainBpe, texts': (wrong) => trainBpe(wrong, { vocabSize: 300 }),
  'trainBpe, options': (wrong) => trainBpe(['a text'], wrong),
  'train, a run': (wrong) => train(wrong),
  'planExport, a folder': (wrong) => planExport(wrong),
  'createApp, a name': (wrong) => createApp(wrong),
};

test.each(Object.entries(CALLS))('%s', async (_, call) => {
  for (const wrong of [null, undefined, 5] as never[]) {
    const answer = (async () => call(wrong))();
    await expect(answer, String(wrong)).rejects.toThrow(DataError);
    await expect(answer, String(wrong)).rejects.toThrow(/ (is|are) (null|undefined|5): expected /);
  }
});

test('options that are no object', async () => {
  await expect(planExport('none', null as never)).rejects.toThrow('the options are null: expected an object');
  expect(() => createApp('none', null as never)).toThrow('the options are null: expected an object');
});

test('what was given is told by its kind, a long text by its beginning', async () => {
  const read = (wrong: unknown): Promise<unknown> => session.readEach(wrong as number[]);
  await expect(read({})).rejects.toThrow('the tokens are an object: expected a list of numbers');
  await expect(read('x'.repeat(100))).rejects.toThrow(`the tokens are "${'x'.repeat(60)}...": expected`);
  await expect(chat().encode([null] as never)).rejects.toThrow('message 1 is null: expected an object');
  expect(() => hybridModel({} as never)).toThrow('the pattern is undefined: expected a text');
});
