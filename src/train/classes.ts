/** Training of classifiers. */
import { sha256 } from '#platform';
import { DataError } from '../errors.js';
import {
  cast,
  crossEntropy,
  divide,
  equal,
  mean,
  multiply,
  reshape,
  scalar,
  sum,
  topK,
} from '../graph/index.js';
import { type ImagesConfig, perceive, type SoundsConfig } from '../models/index.js';
import { Random } from '../nn/index.js';
import { type Image, pixelValues, type Sound } from '../signals/index.js';
import { type Augmentation, augmentationIdentity, augmented, checkAugmentation } from './augmentation.js';
import { shuffled } from './batches.js';
import {
  batched,
  type DataSource,
  type ExampleInput,
  elements,
  type FiniteExamples,
  inputConfigOf,
  type Objective,
  type TrainingData,
} from './data.js';

/** A labelled example. */
export interface Labelled<T> {
  readonly example: T;
  /** The index of its class among the model's. */
  readonly label: number;
}

/**
 * The cross entropy of an example's class, from the mean of the logits over positions; if there is an input `heard`, only over positions where
 * it is 1. The other `inputs` are those of the modality. Evaluation also measures `accuracy`: the share of examples whose class has the highest
 * logit.
 */
export function classObjective(inputs: readonly ExampleInput[]): Objective {
  return {
    inputs: [...inputs, { name: 'label', dtype: 'int64', shape: [] }],
    loss(model, registry, { label, heard, ...read }) {
      const batch = label!.shape[0]!;
      const each = perceive(model, registry, read, scalar(0, 'int64')).said.logits!;
      const logits = heard
        ? divide(
            sum(multiply(each, reshape(heard, [...heard.shape, 1])), 1),
            sum(heard, 1, { keepDims: true }),
          )
        : mean(each, 1);
      const likeliest = reshape(topK(logits, 1, -1).indices, [batch]);
      return {
        total: sum(crossEntropy(logits, label!)),
        count: elements([batch]),
        measures: { accuracy: sum(cast(equal(likeliest, label!), 'float32')) },
      };
    },
  };
}

/** The options of image training. */
export interface ImageDataOptions {
  /** How the images are varied in training, or what returns a variation of an image, of the same size; by default they are not. */
  readonly augment?: Augmentation | ((image: Image, random: Random) => Image);
}

/**
 * Images of the model's size and channels, reshuffled in each epoch. Throws `DataError` for images of another size and for an empty set,
 * `ConfigError` for a model that is not an image classifier and for an augmentation outside its ranges.
 */
export function imageData(
  training: readonly Labelled<Image>[],
  validation: readonly Labelled<Image>[],
  { augment = {} }: ImageDataOptions = {},
): DataSource {
  const vary =
    typeof augment === 'function'
      ? augment
      : (image: Image, random: Random): Image => augmented(image, random, augment);
  if (typeof augment !== 'function') checkAugmentation(augment);
  return (model, { seed }) => {
    const { height, width, channels, classes } = inputConfigOf<ImagesConfig>(model, 'images');
    const named = typeof augment !== 'function' && Object.keys(augment).length > 0;
    return classData(
      {
        ...{ training, validation, classes, seed, kind: 'images' },
        ...(named && { identity: { augmentation: augmentationIdentity(augment) } }),
      },
      {
        inputs: [{ name: 'pixels', dtype: 'float32', shape: [height, width, channels] }],
        expectFitting(image) {
          if (image.height === height && image.width === width && image.channels === channels) return;
          throw new DataError(
            `an image has ${image.width} x ${image.height} pixels of ${image.channels}, and the model reads ${width} x ${height} of ${channels}`,
          );
        },
        bytes: ({ pixels }) => pixels,
        values: (image, random) => ({ pixels: pixelValues(random ? vary(image, random) : image) }),
      },
    );
  };
}

/**
 * Sounds at the model's rate, reshuffled in each epoch. Of a sound longer than `settings.sequence` frames, training uses a random part and
 * evaluation the beginning. Throws as `imageData` does.
 */
export function soundData(
  training: readonly Labelled<Sound>[],
  validation: readonly Labelled<Sound>[],
): DataSource {
  return (model, { seed, sequence }) => {
    const { rate, hop, classes } = inputConfigOf<SoundsConfig>(model, 'sounds');
    return classData(
      { training, validation, classes, seed, kind: 'sounds' },
      {
        inputs: [
          { name: 'samples', dtype: 'float32', shape: [sequence, hop] },
          { name: 'heard', dtype: 'float32', shape: [sequence] },
        ],
        expectFitting(sound) {
          if (sound.rate !== rate)
            throw new DataError(`a sound has ${sound.rate} samples a second, and the model hears ${rate}`);
          if (sound.samples.length === 0) throw new DataError('a sound has no samples');
        },
        bytes: ({ samples }) => new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength),
        values({ samples: all }, random) {
          const span = sequence * hop;
          const start = random ? random.below(Math.max(0, all.length - span) + 1) : 0;
          const samples = new Float32Array(span);
          samples.set(all.subarray(start, start + span));
          const frames = Math.min(sequence, Math.ceil(all.length / hop));
          return { samples, heard: new Float32Array(sequence).fill(1, 0, frames) };
        },
      },
    );
  };
}

interface LabelledSets<T> {
  readonly training: readonly Labelled<T>[];
  readonly validation: readonly Labelled<T>[];
  readonly classes: readonly string[];
  readonly seed: number;
  /** The name of examples in messages. */
  readonly kind: string;
  /** What else determines a run. */
  readonly identity?: TrainingData['identity'];
}

/** Converts examples to the model's inputs. */
interface Reading<T> {
  readonly inputs: readonly ExampleInput[];
  /** Throws `DataError` for an example that the model cannot read. */
  readonly expectFitting: (example: T) => void;
  /** The bytes that go into the digest of the data. */
  readonly bytes: (example: T) => Uint8Array;
  /** The values of the inputs by name; `random` is given in training, for augmentation. */
  readonly values: (example: T, random?: Random) => Readonly<Record<string, Float32Array>>;
}

function classData<T>(
  { training, validation, classes, seed, kind, identity }: LabelledSets<T>,
  { inputs, expectFitting, bytes, values }: Reading<T>,
): TrainingData {
  if (training.length === 0 || validation.length === 0)
    throw new DataError(`there are no ${kind} to learn from, or none to hold out`);
  for (const { example, label } of [...training, ...validation]) {
    expectFitting(example);
    if (!(Number.isInteger(label) && label >= 0 && label < classes.length))
      throw new DataError(
        `one of the ${kind} is of class ${label}, and the model has ${classes.length} classes`,
      );
  }
  const batchOf = (examples: readonly Labelled<T>[], random: (i: number) => Random | undefined) => {
    const read = examples.map(({ example }, i) => values(example, random(i)));
    return {
      ...batched(inputs, read),
      label: BigInt64Array.from(examples, ({ label }) => BigInt(label)),
    };
  };
  const digest = (set: readonly Labelled<T>[]): string => {
    const hash = sha256();
    for (const { example, label } of set) hash.update(`${label} `).update(bytes(example));
    return hash.digest('hex');
  };
  const order = shuffled(training.length, seed);
  const held: FiniteExamples = {
    count: validation.length,
    take: (first, count) => batchOf(validation.slice(first, first + count), () => undefined),
  };
  return {
    objective: classObjective(inputs),
    training: {
      take(first, count) {
        const examples = Array.from({ length: count }, (_, i) => training[order(first + i)]!);
        return batchOf(examples, (i) => Random.at(seed, first + i));
      },
    },
    validation: held,
    identity: { [kind]: digest(training), [`held-out ${kind}`]: digest(validation), ...identity },
  };
}
