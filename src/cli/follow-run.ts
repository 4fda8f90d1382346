/** Runs training with progress, Ctrl-C handling and a summary. */
import { join } from 'node:path';
import { type Device, openDevice } from '../engine/index.js';
import { CHECKPOINT, countParameters, type Model, parametersOf } from '../models/index.js';
import {
  checkRun,
  type Evaluation,
  type StepEvaluation,
  type TrainingEvent,
  type TrainingInput,
  train,
} from '../train/index.js';
import { formatDuration, formatRate } from './format.js';
import { endSoon, savingAtCtrlC } from './interrupt.js';
import { type DeviceFlags, deviceOptionsOf } from './run-flags.js';

/** The input of a training run, without the parts that `followRun` adds. */
export interface RunToFollow extends Omit<TrainingInput, 'device' | 'sample' | 'onEvent' | 'signal'> {
  /** Returns a sampler for a device. */
  readonly sampler?: (writer: Device) => NonNullable<TrainingInput['sample']>;
}

/** The texts that depend on the kind of model. */
export interface RunWording {
  /** Describes evaluations: during the run, and at the end. */
  readonly quality: (evaluation: Evaluation) => string;
  readonly result: (evaluation: Evaluation) => string;
  /** The name of the result, and the command that uses it. */
  readonly made: string;
  readonly next: string;
  /** The unit of the rate: `tokens`. */
  readonly unit: string;
}

/**
 * Trains on the requested device; returns whether the run is complete. An interrupted run saves a checkpoint and sets the exit status 130.
 */
export async function followRun(
  { sampler, ...input }: RunToFollow,
  options: DeviceFlags,
  wording: RunWording,
): Promise<boolean> {
  const deviceOptions = deviceOptionsOf(options);
  checkRun(input);
  if (input.settings.steps === 0)
    say('note        0 steps: nothing is trained, and the model is written as it begins');
  const device = await openDevice(options.device, deviceOptions);
  const writer = sampler && (options.device === 'cpu' ? device : await openWriter(input.model));
  const progress = new Progress(input.settings, wording);
  const result = await savingAtCtrlC(
    (signal) =>
      train({
        ...input,
        device,
        ...(sampler && { sample: sampler(writer!) }),
        onEvent: (event) => progress.show(event),
        signal,
      }),
    () => say('\ninterrupted: saving when the present steps are done'),
  )
    .finally(() => progress.clear())
    .catch((error: unknown) => {
      if (device.group) endSoon();
      throw error;
    });
  if (writer !== device) await writer?.dispose();
  await device.dispose();
  if (!result.completed) {
    say(`stopped after step ${result.step}. Go on with the same command and --resume.`);
    process.exitCode = 130;
    return false;
  }
  const { process: number = 0 } = options;
  if (number > 0) {
    say(`done: process ${number} has trained along, and process 0 has written the ${wording.made}`);
    return true;
  }
  const { best = progress.last! } = result;
  const of = best.step < result.step ? ` after step ${best.step}, the best of the run` : '';
  if (of && best.step === 0)
    say('note        no step made the validation loss smaller: the model is left as it began');
  say(`done: ${wording.result(best)}${of}, ${wording.made} in ${join(input.folder, CHECKPOINT)}`);
  say(`next:  ${wording.next}`);
  return true;
}

/** The part of WebAssembly's memory that weights may take, beside states and what a step needs. */
const MOST_SHARE = 0.75;

/**
 * The device for samples during training on a GPU: our WebAssembly kernels, which need no ONNX Runtime, or the CPU for a model that is larger
 * than their memory.
 */
export async function openWriter(model: Model): Promise<Device> {
  const wasm = await openDevice('wasm');
  const bytes = 4 * countParameters(parametersOf(model));
  if (bytes <= MOST_SHARE * (wasm.addressable ?? Number.POSITIVE_INFINITY)) return wasm;
  await wasm.dispose();
  return openDevice('cpu');
}

/** Writes a message to standard error; standard output is for results. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** A live line on a terminal, plain lines elsewhere. */
class Progress {
  private readonly live = process.stderr.isTTY === true;
  private readonly tokensPerStep: number;
  private lastLine = 0;
  /** The last evaluation. */
  last: StepEvaluation | undefined;

  constructor(
    private readonly settings: TrainingInput['settings'],
    private readonly wording: RunWording,
  ) {
    this.tokensPerStep = settings.batch * settings.accumulate * settings.sequence;
  }

  show(event: TrainingEvent): void {
    const { steps } = this.settings;
    if (event.event === 'evaluation') {
      this.clear();
      this.last = event;
      say(`step ${event.step}: ${this.wording.quality(event)}`);
    } else if (event.event === 'step') {
      const left = formatDuration(((steps - event.step) * this.tokensPerStep) / event.tokensPerSecond);
      const rate = formatRate(event.tokensPerSecond, this.wording.unit);
      const line = `step ${event.step}/${steps}  loss ${event.loss.toFixed(4)}  ${rate}  ${left} left`;
      if (this.live) process.stderr.write(`\r\x1b[K${line}`);
      else if (event.step === steps || performance.now() - this.lastLine > 10_000) {
        this.lastLine = performance.now();
        say(line);
      }
    }
  }

  clear(): void {
    if (this.live) process.stderr.write('\r\x1b[K');
  }
}
