/** Learning to tell classes apart. */
import { createHash } from 'node:crypto';
import { ConfigError, DataError } from '../errors.js';
import { cast, crossEntropy, equal, mean, reshape, scalar, sum, topK } from '../graph/index.js';
import { type ImagesConfig, perceive } from '../models/index.js';
import { Random } from '../nn/index.js';
import { type Image, pixelValues } from '../signals/index.js';
import { type DataSource, type ExampleInput, type Examples, elements, type Objective } from './data.js';

export interface LabelledImage {
  readonly image: Image;
  /** The number of its class, in the order of the model's. */
  readonly label: number;
}

/**
 * The cross-entropy of an example's class, by the mean of the logits of its positions. `inputs` are those of the modality. Evaluation
 * tells `accuracy` beside: how many have the highest logit at their class.
 */
export function classObjective(inputs: readonly ExampleInput[]): Objective {
  return {
    inputs: [...inputs, { name: 'label', dtype: 'int64', shape: [] }],
    loss(model, registry, { label, ...read }) {
      const logits = mean(perceive(model, registry, read, scalar(0, 'int64')).said.logits!, 1);
      const batch = label!.shape[0]!;
      const likeliest = reshape(topK(logits, 1, -1).indices, [batch]);
      return {
        total: sum(crossEntropy(logits, label!)),
        count: elements([batch]),
        measures: { accuracy: sum(cast(equal(likeliest, label!), 'float32')) },
      };
    },
  };
}

/**
 * Images of the size and the colours that a model reads, in a new order each time all were seen. Throws `DataError` for images of
 * another size and where there are none, `ConfigError` for a model of something else.
 */
export function imageData(
  training: readonly LabelledImage[],
  validation: readonly LabelledImage[],
): DataSource {
  return (model, { seed }) => {
    const config = (model.json as { input?: ImagesConfig }).input;
    if (config?.kind !== 'images') throw new ConfigError('this is no model of images');
    for (const images of [training, validation]) expectFitting(images, config);
    const { height, width, channels } = config;
    const order = shuffled(training.length, seed);
    return {
      objective: classObjective([{ name: 'pixels', dtype: 'float32', shape: [height, width, channels] }]),
      training: examplesOf((i) => training[order(i)]!),
      validation: { count: validation.length, ...examplesOf((i) => validation[i]!) },
      identity: { images: digestOf(training), 'held-out images': digestOf(validation) },
    };
  };
}

function expectFitting(images: readonly LabelledImage[], config: ImagesConfig): void {
  if (images.length === 0) throw new DataError('there are no images to learn from, or none to hold out');
  const { height, width, channels, classes } = config;
  for (const { image, label } of images) {
    if (image.height !== height || image.width !== width || image.channels !== channels) {
      throw new DataError(
        `an image has ${image.width} x ${image.height} pixels of ${image.channels}, and the model reads ${width} x ${height} of ${channels}`,
      );
    }
    if (!(Number.isInteger(label) && label >= 0 && label < classes.length))
      throw new DataError(`an image is of class ${label}, and the model has ${classes.length} classes`);
  }
}

/** Numbers below `count`, each once before any comes again; what comes at i follows from the seed alone. */
function shuffled(count: number, seed: number): (i: number) => number {
  let epoch = -1;
  let order = new Uint32Array();
  return (i) => {
    const wanted = Math.floor(i / count);
    if (wanted !== epoch) order = new Random(seed * 1_000_003 + wanted).permutation(count) as typeof order;
    epoch = wanted;
    return order[i % count]!;
  };
}

function examplesOf(at: (i: number) => LabelledImage): Examples {
  return {
    take(first, count) {
      const examples = Array.from({ length: count }, (_, i) => at(first + i));
      const size = examples[0]?.image.pixels.length ?? 0;
      const pixels = new Float32Array(count * size);
      for (const [i, { image }] of examples.entries()) pixels.set(pixelValues(image), i * size);
      return { pixels, label: BigInt64Array.from(examples, ({ label }) => BigInt(label)) };
    },
  };
}

function digestOf(images: readonly LabelledImage[]): string {
  const hash = createHash('sha256');
  for (const { image, label } of images) hash.update(`${label} `).update(image.pixels);
  return hash.digest('hex');
}
