/** `heddle train <folder of sounds by class>`. */
import { DataError } from '../errors.js';
import type { SoundsConfig } from '../models/index.js';
import { flawOf, readSound, type Sound } from '../signals/index.js';
import { soundData } from '../train/index.js';
import type { ClassKind } from './train-classes.js';

/** In seconds. */
const FRAME = 0.032;
const HOP = 0.016;
/** The most frames of a training example: four seconds. */
const LONGEST = 256;

/** Reads a folder of sounds, and derives the model's input. */
export function soundsByClass(): ClassKind<Sound> {
  let first: { path: string; rate: number } | undefined;
  let odd: string | undefined;
  return {
    one: 'sound',
    many: 'sounds',
    positions: 'frames',
    without: ['patch', 'imageSize'],
    async read(path) {
      const example = await readSound(path);
      const { rate } = example;
      first ??= { path, rate };
      if (rate !== first.rate)
        odd ??= `${path} has ${rate} samples a second and ${first.path} ${first.rate}: convert all to one rate`;
      const flaw = flawOf(example);
      if (flaw === 'silent') throw new DataError(`${path} is silent: there is nothing to learn from`);
      return { example, ...(flaw && { note: 'is clipped: its peaks were cut off when it was recorded' }) };
    },
    together(examples, classes) {
      if (odd !== undefined) throw new DataError(odd);
      const { rate } = examples[0]!.example;
      const seconds = examples.reduce((sum, { example }) => sum + example.samples.length, 0) / rate;
      return {
        examples,
        input: { ...soundFrames(rate), classes },
        about: `${seconds.toFixed(1)} s at ${rate} samples a second`,
      };
    },
    sequence(model, examples) {
      const { hop } = (model.json as { input: SoundsConfig }).input;
      const longest = Math.max(...examples.map(({ example }) => Math.ceil(example.samples.length / hop)));
      return Math.min(LONGEST, longest);
    },
    data: soundData,
  };
}

/** The input of a model for a sample rate. */
export function soundFrames(rate: number): Omit<SoundsConfig, 'classes'> {
  const frame = Math.max(2, Math.min(4096, Math.round(FRAME * rate)));
  return {
    kind: 'sounds',
    rate,
    frame,
    hop: Math.max(1, Math.min(frame, Math.round(HOP * rate))),
    features: 'log-mel',
    mels: Math.max(1, Math.min(40, frame >> 1)),
  };
}
