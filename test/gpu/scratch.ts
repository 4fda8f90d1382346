import { writeFileSync } from 'node:fs';
import { openDevice as openReal, float32, int64, type Device } from '../../src/engine/index.js';
import { DESIGNS, hybridModel, modelConfig, preset, parametersOf, countParameters } from '../../src/models/index.js';
import { Random } from '../../src/nn/index.js';
import { ADAMW_DEFAULTS, initialMemory, initialWeights, nextTokens, trainingProgram } from '../../src/train/index.js';
import { stepScalars } from '../../src/train/optimizer.js';
import { decoderPrograms } from '../../src/generate/program.js';
import { graniteModel, GRANITE_350M } from '../../src/bench/shapes.js';
import { XlaDevice } from '../../src/engine/xla/device.js'; import { EvaluatorClient } from '../../src/engine/xla/testing/evaluator-client.js';
const openDevice: typeof openReal = async (name, options = {}) => name === 'cuda' && process.env.EVAL ? new XlaDevice(new EvaluatorClient(), { precision: options.precision ?? 'bfloat16' }) as never : openReal(name, options);
const STEPS0 = process.env.EVAL ? 8 : 48;
const OUT = process.argv[2] ?? '.'; const only = new Set((process.argv[3] ?? 'losses,decode,train,small,write').split(','));
const log: Record<string, unknown> = {}; const t00 = performance.now();
const save = () => writeFileSync(`${OUT}/scratch.json`, JSON.stringify(log, undefined, 1));
const say = (...x: unknown[]) => console.log(`[${((performance.now() - t00) / 1000).toFixed(1)}]`, ...x);
const fenced = async (name: string, f: () => Promise<unknown>) => { if (!only.has(name)) return; try { log[name] = await f(); } catch (e) { log[name] = String((e as Error).stack); say('FAILED', name, (e as Error).stack?.slice(0, 3000)); } save(); };
const onCompile = () => say('compiling');

async function losses(device: Device, design: (typeof DESIGNS)[number], stepsPerRun = 1, STEPS = STEPS0): Promise<number[]> {
  const [batch, sequence, vocabulary] = [2, 24, 64];
  const config = { ...preset(design, 'nano', vocabulary), hiddenSize: 32, mambaNumHeads: 2, intermediateSize: 32, numAttentionHeads: 2, numKeyValueHeads: 1, attentionWindow: 4, attentionSelected: 4 };
  const model = hybridModel(modelConfig(config as never));
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), ADAMW_DEFAULTS, { batch, accumulate: 1, stepsPerRun });
  const executable = await device.compile(program);
  const state = executable.newState(initialMemory(parameters, 1));
  const random = new Random(2); const seen: number[] = [];
  for (let step = 1; step <= STEPS; step += stepsPerRun) {
    const ids = Array.from({ length: stepsPerRun * batch * (sequence + 1) }, () => random.below(vocabulary / 4));
    const scalars = Array.from({ length: stepsPerRun }, (_, i) => stepScalars(ADAMW_DEFAULTS, step + i, 3e-3)).flat();
    const { loss } = await executable.run({ tokens: int64(ids, [stepsPerRun, 1, batch, sequence + 1]), scalars: float32(scalars, [stepsPerRun, 3]) }, [state]);
    seen.push(...(loss!.data as Float32Array));
  }
  state.dispose(); await executable.dispose(); return seen;
}
const drift = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
await fenced('losses', async () => {
  const cpu = await openDevice('wasm', { threads: 1 }); const r: Record<string, unknown> = {};
  const f32 = await openDevice('cuda', { precision: 'float32', onCompile }); const b16 = await openDevice('cuda', { precision: 'bfloat16', onCompile });
  for (const d of DESIGNS) { const e = await losses(cpu, d); say(d, 'cpu', e[0], e.at(-1));
    const a = await losses(f32, d); const b = await losses(b16, d); const c = await losses(f32, d, 4);
    r[d] = { f32: drift(a, e), f32x4: drift(c, e), bf16: drift(b, e), last: [e.at(-1), a.at(-1), b.at(-1)] }; say(d, JSON.stringify(r[d])); }
  return r;
});
// whole = chunks = token by token; against wasm
await fenced('decode', async () => {
  const model = hybridModel(modelConfig({ ...preset('hybrid', 'nano', 300), pattern: 'M-*W-S' } as never)); const weights = initialWeights(parametersOf(model), 3);
  const ids = Array.from({ length: 70 }, (_, i) => (i * 37) % 300); const r: Record<string, unknown> = {};
  const feeds = (part: number[], at: number) => ({ ids: int64(part, [1, part.length]), position: int64([at], [1]), places: int64([part.length - 1], [1]) });
  const results: Record<string, Float32Array> = {};
  for (const [name, dev] of [['wasm', await openDevice('wasm', { threads: 1 })], ['f32', await openDevice('cuda', { precision: 'float32' })], ['bf16', await openDevice('cuda', {})]] as const) {
    const { reader, writer } = await dev.compileDecoder(decoderPrograms(model, weights));
    const a = reader.newState(); const whole = (await reader.run(feeds(ids, 0), [a])).logits!.data as Float32Array;
    const b = reader.newState(); let last!: Float32Array; for (const [i, id] of ids.entries()) last = (await writer.run(feeds([id], i), [b])).logits!.data as Float32Array;
    const c = b.fork(); const next = (await writer.run(feeds([5], 70), [a])).logits!.data as Float32Array; const nextC = (await writer.run(feeds([5], 70), [c])).logits!.data as Float32Array;
    const two = await writer.run({ ids: int64([5, 6], [2, 1]), position: int64([70, 71], [2]), places: int64([0, 1], [2]) }, [b, c]);
    const err = (x: Float32Array, y: Float32Array) => Math.max(...x.map((v, i) => Math.abs(v - y[i]!)));
    results[name] = whole; r[name] = { wholeVsToken: err(whole, last), nextVsFork: err(next, nextC), batch: err(next, (two.logits!.data as Float32Array).slice(0, 300)), vsWasm: err(whole, results.wasm!), size: Math.max(...whole.map(Math.abs)) }; say(name, JSON.stringify(r[name]));
    const read = await b.read(); r[name + 'state'] = [...read].map(([k, v]) => `${k} ${v.dims}`).slice(0, 4);
  }
  return r;
});
async function trainSpeed(config: object, batch: number, sequence: number, stepsPerRun: number, runs: number, options = {}) {
  const device = await openDevice('cuda', { onCompile, ...options });
  const model = hybridModel(modelConfig(config as never)); const n = countParameters(parametersOf(model));
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), ADAMW_DEFAULTS, { batch, accumulate: 1, stepsPerRun });
  const t0 = performance.now(); const executable = await device.compile(program); const state = executable.newState(initialMemory(parameters, 1)); say('built', n, performance.now() - t0);
  const random = new Random(1); const V = (config as { vocabSize: number }).vocabSize; const dims = [stepsPerRun, 1, batch, sequence + 1];
  const data = BigInt64Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => BigInt(random.below(V / 20)));
  const times: number[] = []; const seen: number[] = []; let done = 0; let first = 0;
  for (let i = 0; i < runs; i++) { const t = performance.now(); const scalars = Array.from({ length: stepsPerRun }, (_, j) => stepScalars(ADAMW_DEFAULTS, done + j + 1, 1e-3)).flat(); done += stepsPerRun;
    const { loss } = await executable.run({ tokens: { dtype: 'int64', dims, data }, scalars: float32(scalars, [stepsPerRun, 3]) }, [state]); seen.push(loss!.data.at(-1) as number); const e = performance.now() - t; if (i === 0) first = e; else if (i > 2) times.push(e); }
  times.sort((a, b) => a - b); const best = times[0]! / stepsPerRun; const median = times[times.length >> 1]! / stepsPerRun;
  state.dispose(); await executable.dispose(); await device.dispose();
  const r = { parameters: n, batch, sequence, stepsPerRun, first, best, median, tokensPerSecond: (batch * sequence) / best * 1e3, losses: [seen[0], seen.at(-1)] }; say(JSON.stringify(r)); return r;
}
const BIG = { ...preset('ssm', 'base', 16384), hiddenSize: 768, mambaNumHeads: 24, mambaHeadDim: 64, ssmStateSize: 64, nGroups: 1, intermediateSize: 2048, pattern: 'M-'.repeat(12), maxPositionEmbeddings: 1024 };
await fenced('train', async () => [await trainSpeed(BIG, 16, 1024, 1, 16), await trainSpeed(BIG, 16, 1024, 4, 6)]);
await fenced('small', async () => { const r = []; for (const [size, steps] of [['nano', 8], ['nano', 32], ['small', 8]] as const) for (const design of ['ssm', 'hybrid'] as const) r.push(await trainSpeed(preset(design, size, 4096), 32, 256, steps, 8)); return r; });
await fenced('write', async () => {
  const model = graniteModel(GRANITE_350M); const r: unknown[] = []; let seed = 1;
  const rnd = () => { seed = (seed * 1103515245 + 12345) & 0x7fffffff; return seed / 0x3fffffff - 1; };
  const weights = new Map(parametersOf(model).map(({ name, shape }) => [name, float32(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rnd() * 0.03), shape)]));
  const device = await openDevice('cuda', { onCompile }); const t0 = performance.now(); const { reader, writer } = await device.compileDecoder(decoderPrograms(model, weights)); say('placed', performance.now() - t0);
  for (const B of [1, 8]) { const states = Array.from({ length: B }, () => writer.newState()); const times: number[] = [];
    for (let i = 0; i < 120; i++) { const t = performance.now(); await writer.run({ ids: int64(Array(B).fill(i), [B, 1]), position: int64(Array(B).fill(i), [B]), places: int64([...Array(B).keys()], [B]) }, states); times.push(performance.now() - t); }
    const s = times.slice(20).sort((a, b) => a - b); r.push({ B, first: times[0], median: s[s.length >> 1], best: s[0], tokens: (B / s[s.length >> 1]!) * 1e3 }); say(JSON.stringify(r.at(-1))); for (const st of states) st.dispose(); }
  for (const S of [256, 4096]) { const state = reader.newState(); const times: number[] = []; for (let i = 0; i < (S === 256 ? 8 : 4); i++) { const t = performance.now(); await reader.run({ ids: int64(Array.from({ length: S }, (_, j) => j % 1000), [1, S]), position: int64([i * S], [1]), places: int64([S - 1], [1]) }, [state]); times.push(performance.now() - t); } r.push({ S, times, tokens: (S / Math.min(...times)) * 1e3 }); say(JSON.stringify(r.at(-1))); state.dispose(); }
  return r;
});
say('done'); process.exit(0);
