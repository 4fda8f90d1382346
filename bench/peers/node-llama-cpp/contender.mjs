/** `node contender.mjs <shape> <bits> <file> <threads>`: answers the tasks that Heddle's own process answers. */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { getLlama } from 'node-llama-cpp';
import { writeGguf } from './gguf.mjs';

const WRITTEN = 48;
const [shape, bits, file, threads] = process.argv.slice(2);
writeGguf(file, shape, Number(bits));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const status = (key) =>
  Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

const started = performance.now();
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: Number(threads), logLevel: 'error' });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
say({ seconds: (performance.now() - started) / 1000, heldBytes: status('VmRSS') });

let context;
let size = 0;
async function sequenceFor(tokens) {
  if (tokens > size) {
    await context?.dispose();
    size = tokens;
    context = await model.createContext({
      contextSize: size,
      batchSize: 2048,
      threads: Number(threads),
      sequences: 1,
    });
    return context.getSequence();
  }
  return context.getSequence();
}

const random = (count) => Array.from({ length: count }, () => 300 + Math.floor(Math.random() * 40_000));

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens } = JSON.parse(line);
  const sequence = await sequenceFor(tokens + WRITTEN + 64);
  await sequence.clearHistory();
  const from = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(random(tokens));
  let tokensPerSecond = (tokens / (performance.now() - from)) * 1000;
  if (kind === 'decode') {
    let count = -1;
    let start = 0;
    for await (const _ of sequence.evaluate(random(1), { temperature: 0, yieldEogToken: true })) {
      // The first token is not counted: it still prepares.
      if (++count === 0) start = performance.now();
      if (count === WRITTEN) break;
    }
    tokensPerSecond = (WRITTEN / (performance.now() - start)) * 1000;
  }
  sequence.dispose();
  say({ tokensPerSecond, peakBytes: status('VmHWM') });
}
process.exit(0);
