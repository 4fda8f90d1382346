/** Classification of images and sounds. */
import { expectOptions } from '../arguments.js';
import { type Device, type Executable, float32, type Weight } from '../engine/index.js';
import { DataError } from '../errors.js';
import { scalar } from '../graph/index.js';
import {
  type ImagesConfig,
  type Model,
  modalityInputs,
  perceive,
  type SoundsConfig,
  withModelCache,
  wrongKind,
} from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import {
  decodeImage,
  flawOf,
  type Image,
  pixelValues,
  readImage,
  readSound,
  resized,
  type Sound,
  withChannels,
} from '../signals/index.js';
import { disposedModel } from './disposed.js';
import type { OpenedModel } from './loading.js';
import { SignalModel } from './signal-model.js';

/** The probabilities of the classes. */
export interface Classification {
  /** The most likely class. */
  readonly class: string;
  readonly probability: number;
  /** The probabilities of all classes, which sum to 1, in descending order. */
  readonly classes: readonly { readonly class: string; readonly probability: number }[];
}

/** How inputs are adapted to what the model was trained on. */
export interface ClassifyOptions {
  /** Resizes an image to the size that the model reads. */
  readonly resize?: boolean;
}

/** A path, the bytes of a file, or an example in memory. */
type Source = string | Uint8Array | Image | Sound;

/** Computes the logits of all positions of a file or of an example in memory: [positions, classes], flat. */
interface Reader {
  read(source: Source, options: ClassifyOptions): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** A model that classifies images or sounds (see `loadModel`). */
export class Classifier {
  private isDisposed = false;

  private constructor(
    readonly model: Model,
    readonly config: ImagesConfig | SoundsConfig,
    private readonly reader: Reader,
    private readonly device: Device,
    private readonly ownsDevice: boolean,
  ) {}

  /** What it classifies. */
  get kind(): 'images' | 'sounds' {
    return this.config.kind;
  }

  /** A classifier from a model's files. Throws as `compile` does. */
  static load({ model, weights, device, ownsDevice, cache }: OpenedModel): Promise<Classifier> {
    return Classifier.compile(cache ? withModelCache(model, cache) : model, weights, device, ownsDevice);
  }

  /** Throws `ConfigError` for a model that is not a classifier. With `ownsDevice` the device is disposed of with the model. */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    device: Device,
    ownsDevice = false,
  ): Promise<Classifier> {
    const config = (model.json as { input?: ImagesConfig | SoundsConfig }).input;
    if (config?.kind !== 'images' && config?.kind !== 'sounds')
      throw wrongKind(model.modality?.kind ?? 'text', ['images', 'sounds']);
    const reader =
      config.kind === 'images'
        ? await imageReader(config, model, weights, device)
        : await soundReader(config, model, weights, device);
    return new Classifier(model, config, reader, device, ownsDevice);
  }

  /**
   * Classifies an image or a sound, from memory or from a file (PNG or JPEG, WAV) by its path; of an image, the bytes of the file do too.
   * Images are converted to the model's color channels. Throws `DataError` for a file that cannot be read, for an image of another size or a
   * sound at another rate, and for a silent sound.
   */
  async classify(
    source: string | Uint8Array | Image | Sound,
    options: ClassifyOptions = {},
  ): Promise<Classification> {
    if (this.isDisposed) throw disposedModel();
    expectOptions(options);
    return classificationOf(this.config.classes, await this.reader.read(source, options));
  }

  async dispose(): Promise<void> {
    this.isDisposed = true;
    await this.reader.dispose();
    if (this.ownsDevice) await this.device.dispose();
  }
}

/** Images are read whole, without a state. */
async function imageReader(
  { height, width, channels }: ImagesConfig,
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  device: Device,
): Promise<Reader> {
  const executable = await compileWhole(model, weights, device);
  return {
    async read(source, { resize = false }) {
      const given = await imageOf(source);
      if (!resize && (given.height !== height || given.width !== width)) {
        throw new DataError(
          `${nameOf(source, 'the image')} has ${given.width} x ${given.height} pixels, and the model reads ${width} x ${height}: have it stretched with --resize ('resize' in the library)`,
        );
      }
      const image = resized(withChannels(given, channels), height, width);
      const pixels = float32(pixelValues(image), [1, height, width, channels]);
      return (await executable.run({ pixels })).logits!.data as Float32Array;
    },
    dispose: () => executable.dispose(),
  };
}

/** Reads or decodes an image. Throws `DataError` for what is none, and for pixels that do not fill its size. */
async function imageOf(source: Source): Promise<Image> {
  if (typeof source === 'string') return readImage(source);
  if (source instanceof Uint8Array) return decodeImage(source, 'the image');
  if (typeof source !== 'object' || source === null || !('pixels' in source)) {
    throw new DataError('the model reads images: expected one, the bytes of a PNG or JPEG file, or its path');
  }
  const { height, width, channels, pixels } = source;
  if (pixels.length !== height * width * channels) {
    throw new DataError(
      `the image has ${pixels.length} values: expected ${height * width * channels}, of ${height} x ${width} pixels in ${channels} ${channels === 1 ? 'channel' : 'channels'}`,
    );
  }
  return source;
}

/** The program that computes the logits of a whole example. */
function compileWhole(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  device: Device,
): Promise<Executable> {
  const inputs = modalityInputs(model.modality!);
  const { said } = perceive(model, new ParameterRegistry(), inputs, scalar(0, 'int64'));
  return device.compile({ inputs: Object.values(inputs), outputs: said, weights });
}

/** A sound is read as a stream, of any length; or as a whole, if layers are not causal. */
async function soundReader(
  { rate, hop }: SoundsConfig,
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  device: Device,
): Promise<Reader> {
  const hearing = model.looksAhead
    ? wholeHearing(await compileWhole(model, weights, device), hop)
    : streamHearing(await SignalModel.compile(model, weights, device), hop);
  return {
    async read(source) {
      const sound = typeof source === 'string' ? await readSound(source) : source;
      const name = nameOf(source, 'the sound');
      if (typeof sound !== 'object' || sound === null || !('samples' in sound))
        throw new DataError('the model hears sounds: expected one, or the path of a WAV file');
      if (sound.rate !== rate) {
        throw new DataError(
          `${name} has ${sound.rate} samples a second, and the model hears ${rate}: convert it`,
        );
      }
      if (flawOf(sound) === 'silent') throw new DataError(`${name} is silent: there is nothing to tell`);
      const count = Math.ceil(sound.samples.length / hop);
      // The last position is padded with silence.
      const samples = new Float32Array(count * hop);
      samples.set(sound.samples);
      return hearing.hear(samples);
    },
    dispose: () => hearing.dispose(),
  };
}

/** Computes the logits of all positions of samples; each position has `hop` new samples. */
interface Hearing {
  hear(samples: Float32Array): Promise<Float32Array>;
  dispose(): Promise<void>;
}

function wholeHearing(executable: Executable, hop: number): Hearing {
  return {
    async hear(samples) {
      const fed = float32(samples, [1, samples.length / hop, hop]);
      return (await executable.run({ samples: fed })).logits!.data as Float32Array;
    },
    dispose: () => executable.dispose(),
  };
}

function streamHearing(signal: SignalModel, hop: number): Hearing {
  return {
    async hear(samples) {
      const count = samples.length / hop;
      const session = signal.session();
      try {
        const parts: number[] = [];
        await session.readInPieces({ samples: float32(samples, [1, count, hop]) }, count, ({ logits }) => {
          for (const value of logits!.data as Float32Array) parts.push(value);
        });
        return Float32Array.from(parts);
      } finally {
        session.dispose();
      }
    },
    dispose: () => signal.dispose(),
  };
}

function nameOf(source: Source, otherwise: string): string {
  return typeof source === 'string' ? source : otherwise;
}

/** From the logits of all positions, [positions, classes], flat. */
function classificationOf(names: readonly string[], logits: Float32Array): Classification {
  const positions = logits.length / names.length;
  const means = names.map((_, i) => {
    let total = 0;
    for (let at = i; at < logits.length; at += names.length) total += logits[at]!;
    return total / positions;
  });
  const highest = Math.max(...means);
  const exponentials = means.map((value) => Math.exp(value - highest));
  const total = exponentials.reduce((a, b) => a + b, 0);
  const classes = names
    .map((name, i) => ({ class: name, probability: exponentials[i]! / total }))
    .sort((a, b) => b.probability - a.probability);
  return { ...classes[0]!, classes };
}
