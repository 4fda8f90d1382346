/** Prefill and decoding on `cuda`, with random weights of published shapes. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Device, Weight } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import {
  countParameters,
  locateWeights,
  type Model,
  parametersOf,
  readModel,
  weightBytes,
} from '../models/index.js';
import { bytesTokenizer } from './generation-section.js';
import { writeRandomCheckpoint, writeRandomQuantized } from './random-checkpoint.js';

/** Calls `use` with a model of random weights, in bfloat16 or quantized, and the bytes of its weights. */
export async function withRandomModel<T>(
  model: Model,
  bits: 4 | 8 | 16,
  device: Device,
  use: (language: LanguageModel, bytes: number) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-bench-'));
  try {
    if (bits === 16) await writeRandomCheckpoint(folder, model);
    else await writeRandomQuantized(folder, model, { bits, block: 64 });
    const read = await readModel(folder);
    const weights: ReadonlyMap<string, Weight> = await locateWeights(folder, read);
    // On the device, matrices are stored in the form that is used, bfloat16 or packed.
    const bytes =
      bits === 16
        ? 2 * countParameters(parametersOf(read))
        : [...weights.values()].reduce((sum, weight) => sum + weightBytes(weight), 0);
    const language = await LanguageModel.compile(read, weights, bytesTokenizer(), device);
    try {
      return await use(language, bytes);
    } finally {
      await language.dispose();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The decoding speed of a model. */
export interface WriteRate {
  readonly name: string;
  readonly bits: number;
  readonly rows: number;
  readonly tokensPerSecond: number;
  /** Bytes of weights read per second: all weights once for each step of the batch. */
  readonly bytesPerSecond: number;
}

/** Decodes `rows` sessions at once with the usual sampling settings; returns tokens per second. */
export async function writeRate(language: LanguageModel, rows: number, tokens: number): Promise<number> {
  const write = async (count: number): Promise<{ written: number; seconds: number }> => {
    const sessions = Array.from({ length: rows }, () => language.session());
    await Promise.all(sessions.map((session, i) => session.read([i + 1, 2, 3])));
    const started = performance.now();
    let written = 0;
    await Promise.all(
      sessions.map(async (session, i) => {
        for await (const { id } of session.generate({ maxTokens: count, seed: i }))
          written += id === undefined ? 0 : 1;
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    for (const session of sessions) session.dispose();
    return { written, seconds };
  };
  // Programs are compiled for the sizes of the run.
  await write(40);
  const runs = [await write(tokens), await write(tokens)];
  return Math.max(...runs.map(({ written, seconds }) => written / seconds));
}

/** The reading speed of a stretch of a long text. */
export interface ReadRate {
  readonly name: string;
  /** The positions of its start and end, in tokens. */
  readonly from: number;
  readonly to: number;
  readonly tokensPerSecond: number;
}

/** Lets one session read up to each of these lengths, and measures each stretch. */
export async function* readRates(
  name: string,
  language: LanguageModel,
  lengths: readonly number[],
): AsyncGenerator<ReadRate> {
  const ids = (count: number) =>
    Array.from({ length: count }, (_, i) => (i * 7 + 1) % language.model.vocabSize);
  for (const isTimed of [false, true]) {
    const session = language.session();
    let from = 0;
    for (const to of lengths) {
      const stretch = ids(to - from);
      const started = performance.now();
      await session.read(stretch);
      const seconds = (performance.now() - started) / 1000;
      if (isTimed) yield { name, from, to, tokensPerSecond: stretch.length / seconds };
      from = to;
      // The first run compiles; for a state of constant size, that program serves every length.
      if (
        !isTimed &&
        from >= 2 * language.chunk &&
        language.model.state.every(({ grows }) => grows === undefined)
      )
        break;
    }
    session.dispose();
  }
}

/** Seconds from the start of `heddle generate` to its first text, and to its end. */
export interface FirstToken {
  readonly first: number;
  readonly end: number;
}

/** Runs the command with the shipped model, with an empty program cache and again with the filled cache. */
export async function firstTokens(device: string): Promise<{ cold: FirstToken; warm: FirstToken }> {
  const cache = await mkdtemp(join(tmpdir(), 'heddle-cache-'));
  try {
    return { cold: await generateOnce(device, cache), warm: await generateOnce(device, cache) };
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
}

function generateOnce(device: string, cache: string): Promise<FirstToken> {
  const command = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const args = [
    command,
    'generate',
    'sotu-hybrid',
    '--prompt',
    'The state of the union',
    '--device',
    device,
    '--max-tokens',
    '48',
  ];
  const started = performance.now();
  const since = (): number => (performance.now() - started) / 1000;
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, XDG_CACHE_HOME: cache },
  });
  let first: number | undefined;
  let complaints = '';
  child.stdout.on('data', () => {
    first ??= since();
  });
  child.stderr.on('data', (text: Buffer) => {
    complaints = (complaints + text.toString()).slice(-2000);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0 && first !== undefined) resolve({ first, end: since() });
      else reject(new Error(`heddle generate ended with ${code}: ${complaints}`));
    });
  });
}
