/**
 * Sounds: each position has `hop` new samples, in a frame with preceding ones, as raw samples or as log-mel energies; classes come from the
 * mean over positions. The preceding samples are state, so that a stream gives the same result in pieces. The spectrum is a product with two
 * constant matrices, so that everything is differentiable.
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import {
  add,
  addDims,
  concat,
  constant,
  divide,
  log,
  matmul,
  multiply,
  reshape,
  slice,
  type Tensor,
  zeros,
} from '../../graph/index.js';
import { linear } from '../../nn/index.js';
import { classesSchema, classLogits, expectClasses } from './classes.js';
import type { Entering, Modality } from './modality.js';

const positive = (most: number) => z.number().int().positive().max(most);

/** The key `input` of a model that classifies sounds. */
export const soundsSchema = z.strictObject({
  kind: z.literal('sounds'),
  /** Samples in a second. */
  rate: positive(768_000),
  /** The samples of a frame, and the new ones among them. */
  frame: positive(4096),
  hop: positive(4096),
  features: z.enum(['waveform', 'log-mel']),
  /** The number of bands of `log-mel`. */
  mels: positive(512).default(40),
  classes: classesSchema,
});

/** The key `input` of a model of sounds. */
export type SoundsConfig = z.output<typeof soundsSchema>;
type SamplesConfig = Omit<SoundsConfig, 'classes'>;

/** The modality of sound classification. Throws `ConfigError` for inconsistent keys. */
export function sounds(config: SoundsConfig, hiddenSize: number): Modality {
  const { classes } = config;
  expectClasses(classes);
  const entering = samples(config, hiddenSize);
  return {
    ...entering,
    about: `${entering.about} and tells ${classes.join(', ')}`,
    leave: (parameters, hidden) => classLogits(parameters, hidden, classes),
  };
}

/** The input layer of sounds. Throws as `sounds` does. */
export function samples(config: SamplesConfig, hiddenSize: number): Entering & Pick<Modality, 'state'> {
  const { rate, frame, hop, features, mels } = config;
  if (hop > frame)
    throw new ConfigError(
      `input: hop (${hop}) must not be more than frame (${frame}): samples would be skipped`,
    );
  if (features === 'log-mel' && mels > frame / 2)
    throw new ConfigError(`input: mels (${mels}) must not be more than half of frame (${frame})`);
  // The number of blocks of `hop` samples that a frame overlaps.
  const blocks = Math.ceil(frame / hop);
  const kept = (blocks - 1) * hop;
  const featuresOf = features === 'log-mel' ? logMel(config) : (frames: Tensor): Tensor => frames;
  const milliseconds = (samples: number): string => `${Math.round((1000 * samples) / rate)} ms`;
  return {
    kind: 'sounds',
    about: `hears ${rate} samples a second in frames of ${milliseconds(frame)} every ${milliseconds(hop)} (${features})`,
    unit: { name: 'seconds', perPosition: hop / rate },
    // Samples from -1 to 1.
    inputs: [{ name: 'samples', dtype: 'float32', shape: ['sequence', hop] }],
    state: kept === 0 ? [] : [{ name: 'overlap', dtype: 'float32', shape: ['batch', kept], initial: 0 }],
    enter(parameters, { samples: given }, before) {
      const [batch, sequence] = given!.shape;
      const earlier = before?.overlap
        ? reshape(before.overlap, [batch!, blocks - 1, hop])
        : zeros([batch!, blocks - 1, hop]);
      const heard = kept === 0 ? given! : concat([earlier, given!], 1);
      const shifted = Array.from({ length: blocks }, (_, i) => slice(heard, 1, i, addDims(sequence!, i)));
      const whole = concat(shifted, -1);
      const frames = slice(whole, -1, blocks * hop - frame, blocks * hop);
      const last = slice(heard, 1, sequence!, addDims(sequence!, blocks - 1));
      return {
        stream: parameters.within('input', (p) =>
          linear(p, featuresOf(frames), hiddenSize, { bias: true, precise: true }),
        ),
        state: before && kept > 0 ? { overlap: reshape(last, [batch!, kept]) } : {},
        kept: {},
      };
    },
  };
}

/** Below this energy a band counts as silent. */
const LEAST_ENERGY = 1e-6;

/**
 * frames [..., frame] -> [..., mels]: log energies of the spectrum (with a Hann window) in triangular bands (Davis & Mermelstein, 1980), evenly
 * spaced on HTK's mel scale, 2595 log10(1 + f / 700), from 0 to half of the sample rate; scaled to about -1 .. 1.
 */
function logMel({ rate, frame, mels }: SamplesConfig): (frames: Tensor) => Tensor {
  const bins = Math.floor(frame / 2) + 1;
  const wave = (f: (angle: number) => number): Tensor =>
    constant(
      Float32Array.from({ length: frame * bins }, (_, i) => {
        const [n, k] = [Math.floor(i / bins), i % bins];
        const window = 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / frame);
        return window * f((2 * Math.PI * ((n * k) % frame)) / frame);
      }),
      [frame, bins],
    );
  const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const edges = Array.from({ length: mels + 2 }, (_, i) => {
    const mel = (toMel(rate / 2) * i) / (mels + 1);
    return 700 * (10 ** (mel / 2595) - 1);
  });
  const bands = Float32Array.from({ length: bins * mels }, (_, i) => {
    const hertz = (Math.floor(i / mels) * rate) / frame;
    const [low, center, high] = edges.slice(i % mels, (i % mels) + 3) as [number, number, number];
    return Math.max(0, Math.min((hertz - low) / (center - low), (high - hertz) / (high - center)));
  });
  const [cosine, sine, bank] = [wave(Math.cos), wave(Math.sin), constant(bands, [bins, mels])];
  return (frames) => {
    const [real, imaginary] = [matmul(frames, cosine), matmul(frames, sine)];
    const power = add(multiply(real, real), multiply(imaginary, imaginary));
    const energy = multiply(matmul(power, bank), 4 / frame);
    return divide(add(log(add(energy, LEAST_ENERGY)), 6), 8);
  };
}
