/**
 * Heddle as a contender in the runtime benchmark: `node runtime-process.js <shape> <bits> <folder> <threads>`. It loads the model in the
 * folder, prints a line of JSON, and then answers each input line, a task, with the measured speed.
 */
import { createInterface } from 'node:readline';
import { loadModel } from '../generate/index.js';
import { Answers } from './answers.js';
import { decodeCost, prefillRate } from './cost.js';
import { say } from './line-process.js';
import { peakMemory } from './machine.js';
import type { RuntimeAnswer, RuntimeReady, RuntimeTask } from './runtime-tasks.js';

const DECODING_SECONDS = 1;
const ANSWER_TOKENS = 40;

const [, , folder, threads] = process.argv.slice(2) as [string, string, string, string];
const started = performance.now();
const language = await loadModel(folder, { threads: Number(threads) });
const seconds = (performance.now() - started) / 1000;
say({ seconds, heldBytes: process.memoryUsage.rss() } satisfies RuntimeReady);

const answers = new Map<number, Answers>();
const written = new Set<string>();

async function done(task: RuntimeTask): Promise<Omit<RuntimeAnswer, 'peakBytes'>> {
  if (task.kind === 'prefill') return { tokensPerSecond: await prefillRate(language, task.tokens, 1) };
  if (task.kind === 'decode') {
    const { tokensPerSecond, gaps } = await decodeCost(language, task.tokens, DECODING_SECONDS, task.streams);
    return { tokensPerSecond, gaps };
  }
  const prompt = answers.get(task.tokens) ?? (await Answers.after(language, task.tokens));
  answers.set(task.tokens, prompt);
  // The first run compiles.
  if (!written.has(task.how)) await prompt.gaps(task.how, ANSWER_TOKENS);
  written.add(task.how);
  const gaps = await prompt.gaps(task.how, ANSWER_TOKENS);
  return { tokensPerSecond: (1000 * gaps.length) / gaps.reduce((a, b) => a + b, 0), gaps };
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await done(JSON.parse(line) as RuntimeTask);
  say({ ...answer, peakBytes: peakMemory() } satisfies RuntimeAnswer);
}
await language.dispose();
