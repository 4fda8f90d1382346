/** The results of a benchmark run as text, by section. */
import type { GenerationRate } from './generation-section.js';
import type { LoadResult } from './load-section.js';
import type { Machine } from './machine.js';
import type { Peak } from './peak.js';
import type { Streamer, Stretch } from './stream-section.js';
import { decimal, gigaflops, megabytes, millions, milliseconds, percent, table } from './table.js';
import type { StepTime, TrainResult } from './train-section.js';

/** Formats the description of the machine. */
export function machineText(machine: Machine): string {
  const { cpu, cores, memoryBytes, system, device, threads, node, onnxruntime } = machine;
  return [
    `machine: ${cpu}, ${cores} cores, ${decimal(memoryBytes / 1e9)} GB of memory, ${system}`,
    `engine: ${device === 'wasm' ? 'our kernels' : `onnxruntime ${onnxruntime}`} on ${device}, ${threads} threads, Node ${node}`,
  ].join('\n');
}

/** The best rate of all sizes, to which percentages refer. */
export function highest(peaks: readonly Peak[]): number {
  return Math.max(...peaks.map(({ flops }) => flops));
}

/** Formats the rates of matrix products, the reference of other rates. */
export function peakText(peaks: readonly Peak[]): string {
  const rows = peaks.map(({ size, flops }) => [`${size} x ${size}`, gigaflops(flops)]);
  return `peak: float32 matrix products through the engine\n${table(rows)}`;
}

/** A table of training steps, of ours and of a peer. */
export function trainText(result: TrainResult, peak: number): string {
  const { name, parameters, batch, sequence, ours, need, peers, failures, preparations } = result;
  const step = (time: StepTime): string[] => [
    time.name,
    milliseconds(time.bestSeconds),
    milliseconds(time.medianSeconds),
    decimal(time.tokensPerSecond),
    gigaflops(time.flops),
    percent(time.flops / peak),
    megabytes(time.peakBytes),
  ];
  const heads = ['', 'best step', 'median', 'tokens/s', 'arithmetic', 'of peak', 'peak memory'];
  const others = peers.map((peer) => [...step(peer), `${peer.ratio.toFixed(2)} x ours`]);
  const times =
    peers.length === 0 ? [heads, step(ours)] : [[...heads, 'step time'], [...step(ours), ''], ...others];
  return [
    `train: ${name}, ${millions(parameters.total)} parameters (${millions(parameters.computed)} without the input embedding), ${batch} x ${sequence} tokens a step`,
    table(times),
    ...failures.map((failure) => `  not measured: ${failure}`),
    table([
      ['memory', ''],
      ['  parameters', megabytes(need.parameters)],
      ['  gradients', megabytes(need.gradients)],
      ['  optimizer state', megabytes(need.optimizer)],
      ['  activations that the gradient reads', megabytes(need.activations)],
      ['  all of these', megabytes(need.total)],
      ['  peak of the process', megabytes(ours.peakBytes)],
      ['  ratio of the last two', (ours.peakBytes / need.total).toFixed(2)],
    ]),
    table([
      ['before the first step', 'parameters', 'tokens/step', 'graph', 'session'],
      ...preparations.map((entry) => [
        `  ${entry.name}`,
        millions(entry.parameters),
        `${entry.batch} x ${entry.sequence}`,
        milliseconds(entry.build),
        milliseconds(entry.compile),
      ]),
    ]),
  ].join('\n');
}

/** Formats the table of prefill or decoding. */
export function generationText(
  verb: 'prefill' | 'decode',
  rates: readonly GenerationRate[],
  size: string,
  peak: number,
): string {
  const what =
    verb === 'prefill'
      ? 'reading a prompt of this many tokens'
      : 'generating token by token after this many tokens';
  const rows = rates.map(({ design, parameters, tokens, tokensPerSecond, flops, stateBytes }) => [
    design,
    millions(parameters),
    tokens.toLocaleString('en'),
    decimal(tokensPerSecond),
    gigaflops(flops),
    percent(flops / peak),
    megabytes(stateBytes),
  ]);
  const heads = ['', 'parameters', 'tokens', 'tokens/s', 'arithmetic', 'of peak', 'state'];
  return `${verb}: ${what}, the ${size} presets with new weights\n${table([heads, ...rows])}`;
}

/** Formats time and memory of loading. */
export function loadText(result: LoadResult): string {
  const { name, parameters, storedBytes, seconds, peakBytes, heldBytes } = result;
  return [
    `load: a checkpoint of random weights, ${name}, ${millions(parameters)} parameters, ${megabytes(storedBytes)} of bfloat16`,
    table([
      ['', 'time', 'peak while loading', 'held then', 'ratio'],
      [
        '  heddle',
        milliseconds(seconds),
        megabytes(peakBytes),
        megabytes(heldBytes),
        (peakBytes / heldBytes).toFixed(2),
      ],
    ]),
  ].join('\n');
}

/** Formats the streams side by side, at 1, 2 and 5 times each power of ten and at the end. */
export function streamText(streams: ReadonlyMap<Streamer, readonly Stretch[]>): string {
  const all = [...streams.values()].flat();
  const fastest = Math.max(...all.map(({ tokensPerSecond }) => tokensPerSecond));
  const parts = [...streams].map(([streamer, stretches]) => {
    const [first, last] = [stretches[0]!, stretches.at(-1)!];
    const shown = stretches.filter(
      (stretch) =>
        stretch === first || stretch === last || /^[125]0*$/.test(String(stretch.tokens / first.tokens)),
    );
    const rows = shown.map(({ tokens, tokensPerSecond, stateBytes, residentBytes }) => [
      `  ${tokens.toLocaleString('en').padStart(9)}`,
      decimal(tokensPerSecond),
      '█'.repeat(Math.max(1, Math.round((BAR * tokensPerSecond) / fastest))).padEnd(BAR),
      megabytes(stateBytes),
      megabytes(residentBytes),
    ]);
    const ratio = (of: (stretch: Stretch) => number): string => (of(last) / of(first)).toFixed(2);
    return [
      table([[`  ${streamer}, tokens`, 'tokens/s', '', 'state', 'process'], ...rows]),
      `  the last ${first.tokens.toLocaleString('en')} compared with the first: ${ratio((s) => s.tokensPerSecond)} of the speed, ${ratio((s) => s.residentBytes)} of the memory`,
    ].join('\n');
  });
  return `stream: an endless stream, read into one state\n${parts.join('\n\n')}`;
}

const BAR = 30;
