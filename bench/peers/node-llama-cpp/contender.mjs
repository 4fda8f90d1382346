/** `node contender.mjs <shape> <bits> <folder> <threads>`: answers the tasks that Heddle's own process answers. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { getLlama } from 'node-llama-cpp';
import { writeGguf } from './gguf.mjs';

const WRITTEN = 40;
/** Room behind a sequence for what all rounds write. */
const ROOM = 1024;
const [shape, bits, folder, threads] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
if (bits !== '4' && bits !== '8') {
  say({ declines: `it is measured with 4 and 8 bits, not ${bits}` });
  process.exit(0);
}
const file = join(folder, 'peer.gguf');
writeGguf(file, shape, Number(bits));
const status = (key) =>
  Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

const started = performance.now();
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: Number(threads), logLevel: 'error' });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
say({ seconds: (performance.now() - started) / 1000, heldBytes: status('VmRSS') });

const random = (count) => Array.from({ length: count }, () => 300 + Math.floor(Math.random() * 40_000));
const newContext = (tokens, sequences = 1) =>
  model.createContext({
    contextSize: tokens,
    batchSize: Math.min(2048, tokens),
    threads: Number(threads),
    sequences,
  });

async function prefill(tokens) {
  const context = await newContext(tokens + 64);
  const from = performance.now();
  await context.getSequence().evaluateWithoutGeneratingNewTokens(random(tokens));
  const rate = (1000 * tokens) / (performance.now() - from);
  await context.dispose();
  return rate;
}

/** Sequences that have read so many tokens are kept: each round writes on behind what the last one wrote. */
const kept = new Map();
async function sequencesOf(tokens, streams) {
  const key = `${tokens} ${streams}`;
  if (!kept.has(key)) {
    const context = await newContext(tokens + ROOM, streams);
    const sequences = Array.from({ length: streams }, () => context.getSequence());
    for (const sequence of sequences) await sequence.evaluateWithoutGeneratingNewTokens(random(tokens));
    kept.set(key, sequences);
  }
  return kept.get(key);
}

/** The milliseconds between tokens. */
async function write(sequence) {
  const gaps = [];
  let before;
  for await (const _ of sequence.evaluate(random(1), { temperature: 0, yieldEogToken: true })) {
    const now = performance.now();
    // The first token is not counted: it still prepares.
    if (before !== undefined) gaps.push(now - before);
    before = now;
    if (gaps.length === WRITTEN) break;
  }
  return gaps;
}

async function decode(tokens, streams) {
  const sequences = await sequencesOf(tokens, streams);
  const gaps = await Promise.all(sequences.map(write));
  const rates = gaps.map((all) => (1000 * all.length) / all.reduce((a, b) => a + b, 0));
  return { tokensPerSecond: rates.reduce((a, b) => a + b, 0), ...(streams === 1 && { gaps: gaps[0] }) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens, streams } = JSON.parse(line);
  if (kind === 'prefill') say({ tokensPerSecond: await prefill(tokens), peakBytes: status('VmHWM') });
  else if (kind === 'decode') say({ ...(await decode(tokens, streams)), peakBytes: status('VmHWM') });
  else say({ unknown: true });
}
process.exit(0);
