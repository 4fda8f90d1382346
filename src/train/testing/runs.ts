/** Training runs so small that a test can afford several. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Device, type Executable, openDevice, type Program } from '../../engine/index.js';
import { hybridModel } from '../../models/index.js';
import { tinyConfig } from '../../models/testing/tiny.js';
import { TINY_TEXT, tinyTokenizer } from '../../text/testing/tiny.js';
import type { TrainingEvent, TrainingInput, TrainingResult } from '../input.js';
import { TRAINING_DEFAULTS, type TrainingSettings } from '../settings.js';
import { textData } from '../text.js';
import { train } from '../trainer.js';

const device = await openDevice('cpu', { threads: 1 });

/** The same, as a device that takes one step in a run of the program. */
export const stepByStep: Device = {
  name: 'cpu',
  prefersLongRuns: false,
  runsAhead: false,
  compile: (program) => device.compile(program),
  compileDecoder: (programs) => device.compileDecoder(programs),
  dispose: () => device.dispose(),
};

/** The same, as a device whose runs are asked for ahead; `most` is how many were at work at a time. */
export function aheadDevice(): Device & { readonly most: number } {
  let atWork = 0;
  const ahead = {
    ...stepByStep,
    runsAhead: true,
    most: 0,
    async compile(program: Program): Promise<Executable> {
      const executable = await device.compile(program);
      let last: Promise<unknown> = Promise.resolve();
      return {
        newState: (...initial) => executable.newState(...initial),
        run(feeds, rows) {
          ahead.most = Math.max(ahead.most, ++atWork);
          const run = last.then(() => executable.run(feeds, rows)).finally(() => atWork--);
          last = run.catch(() => undefined);
          return run;
        },
        dispose: () => executable.dispose(),
      };
    },
  };
  return ahead;
}

/** The text behind the corpora below. */
export const trainingTokens = Int32Array.from(tinyTokenizer.encode(TINY_TEXT.repeat(4)));
/** The tokens of the text that is learned, to evaluate on. */
export const validationTokens = Int32Array.from(tinyTokenizer.encode(TINY_TEXT));

/** Settings of a run of a few seconds. */
export const tinySettings: TrainingSettings = {
  ...TRAINING_DEFAULTS,
  steps: 24,
  batch: 2,
  sequence: 12,
  learningRate: 1e-2,
  warmupSteps: 4,
  evaluateEvery: 8,
  saveEvery: 8,
};

/** What of such a run differs. */
export interface RunOptions extends Partial<Omit<TrainingInput, 'settings' | 'folder'>> {
  settings?: Partial<TrainingSettings>;
  /** Token ids. */
  training?: Int32Array;
  validation?: Int32Array;
}

/** An input of `train` into a folder. */
export function tinyInput(
  folder: string,
  { settings = {}, training = trainingTokens, validation = validationTokens, ...rest }: RunOptions = {},
): TrainingInput {
  return {
    model: hybridModel(tinyConfig({ pattern: 'M-S-' })),
    tokenizer: tinyTokenizer,
    data: textData(training, validation),
    device,
    folder,
    settings: { ...tinySettings, ...settings },
    ...rest,
  };
}

/** Trains, and stops as an interrupted run does once `step` is done. */
export async function interruptedAfter(
  step: number,
  folder: string,
  options: RunOptions = {},
): Promise<TrainingResult> {
  const interrupt = new AbortController();
  if (step === 0) interrupt.abort();
  const onEvent = (event: TrainingEvent): void => {
    if (event.event === 'step' && event.step === step) interrupt.abort();
  };
  return train(tinyInput(folder, { ...options, onEvent, signal: interrupt.signal }));
}

/** What decides the future of a run: the digests of its checkpoint's files. */
export function digests(folder: string): Record<string, string> {
  const files = [
    'config.json',
    'model.safetensors',
    'optimizer.safetensors',
    'tokenizer.json',
    'training.json',
    'carried.safetensors',
  ];
  return Object.fromEntries(
    files
      .filter((file) => existsSync(join(folder, 'checkpoint', file)))
      .map((file) => [
        file,
        createHash('sha256')
          .update(readFileSync(join(folder, 'checkpoint', file)))
          .digest('hex'),
      ]),
  );
}

/** The events of a run's log. */
export function metrics(folder: string): TrainingEvent[] {
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line) as TrainingEvent);
}
