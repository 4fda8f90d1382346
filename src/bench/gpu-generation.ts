/** Reading and writing on `cuda`, with random weights of published shapes. */
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

/** Gives `use` a model of random weights, in bfloat16 or quantized, and the bytes that its weights take. */
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
    // Matrices are kept on the device as they are used, in bfloat16 or packed.
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

/** How fast a model wrote. */
export interface WriteRate {
  readonly name: string;
  readonly bits: number;
  readonly rows: number;
  readonly tokensPerSecond: number;
  /** Weights read a second, in bytes: all of them for each token of the batch. */
  readonly bytesPerSecond: number;
}

/** So many sessions write at once, as clients ask for it: a temperature and the usual cut. */
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
  // Programs are compiled for the sizes that they are run with.
  await write(40);
  const runs = [await write(tokens), await write(tokens)];
  return Math.max(...runs.map(({ written, seconds }) => written / seconds));
}

/** How fast a stretch of a long text was read. */
export interface ReadRate {
  readonly name: string;
  /** Tokens before the stretch, and behind it. */
  readonly from: number;
  readonly to: number;
  readonly tokensPerSecond: number;
}

/** One session reads up to each of these lengths, one stretch after the other. */
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
      // The first time is for compiling: the program of a state that does not grow serves every length.
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

/** Seconds from the start of `heddle generate` to its first written text, and to its end. */
export interface FirstToken {
  readonly first: number;
  readonly end: number;
}

/** The shipped model through the command, with an empty cache of programs, and again with what that left. */
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
