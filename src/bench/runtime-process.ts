/**
 * Heddle as a contender in the race of runtimes: `node runtime-process.js <folder> <threads>`. It loads the model, says so in a
 * line of JSON, and then answers each line that it reads, a task, with how fast that was.
 */
import { createInterface } from 'node:readline';
import { openDevice } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { PREFILL_CHUNK } from '../generate/language-model.js';
import { locateWeights, readModel } from '../models/index.js';
import { bytesTokenizer } from './generation-section.js';
import { peakMemory } from './machine.js';
import type { RuntimeAnswer, RuntimeReady, RuntimeTask } from './runtime-section.js';

/** Tokens that are written for one answer. */
const WRITTEN = 48;
const GREEDY = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, ends: [], occurred: [] };

const [folder, threads] = process.argv.slice(2) as [string, string];
const started = performance.now();
const model = await readModel(folder);
const device = await openDevice('cpu', { threads: Number(threads) });
const language = await LanguageModel.compile(
  model,
  await locateWeights(folder, model),
  bytesTokenizer(),
  device,
);
say({ seconds: (performance.now() - started) / 1000, heldBytes: process.memoryUsage.rss() });

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens } = JSON.parse(line) as RuntimeTask;
  const tokensPerSecond = kind === 'prefill' ? await prefill(tokens) : await decode(tokens);
  say({ tokensPerSecond, peakBytes: peakMemory() });
}
await language.dispose();

async function prefill(count: number): Promise<number> {
  const ids = Array.from({ length: count }, (_, i) => (i * 7919) % model.vocabSize);
  const memory = language.newMemory();
  const from = performance.now();
  for (let at = 0; at < count; at += PREFILL_CHUNK) {
    await language.read([ids.slice(at, at + PREFILL_CHUNK)], at, memory);
  }
  const seconds = (performance.now() - from) / 1000;
  memory.dispose();
  return count / seconds;
}

/** Behind a state as if `context` tokens had been read: what grows is zeros, since the cost does not depend on values. */
async function decode(context: number): Promise<number> {
  const memory = language.newMemory(1, context);
  const perRun = 8;
  const random = Array.from({ length: perRun }, () => [0]);
  let position = context;
  let last = 1;
  const run = async (): Promise<void> => {
    const { tokens } = await language.write([last], position, memory, random, GREEDY);
    last = tokens.at(-1)![0]!;
    position += perRun;
  };
  // The first run touches fresh memory.
  await run();
  const from = performance.now();
  for (let written = 0; written < WRITTEN; written += perRun) await run();
  const seconds = (performance.now() - from) / 1000;
  memory.dispose();
  return WRITTEN / seconds;
}

function say(line: RuntimeReady | RuntimeAnswer): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
