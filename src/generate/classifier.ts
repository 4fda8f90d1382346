/** Telling what is in an image. */
import { type Device, type Executable, float32, openDevice, type Weight } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { scalar } from '../graph/index.js';
import {
  type ImagesConfig,
  type Model,
  modalityInputs,
  modelFolder,
  openModel,
  perceive,
} from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { type Image, pixelValues, readImage, resized, withChannels } from '../signals/index.js';
import { type LoadOptions, QUANTIZATIONS } from './language-model.js';

export interface Classification {
  /** The likeliest one. */
  readonly class: string;
  readonly probability: number;
  /** Of all classes, the likeliest first; together 1. */
  readonly classes: readonly { readonly class: string; readonly probability: number }[];
}

/** Loads a model of images. Throws `ConfigError` for another model, else as `loadModel` does. */
export async function loadClassifier(name: string, options: LoadOptions = {}): Promise<Classifier> {
  const { device: asked = 'cpu', quantize } = options;
  const quantization = typeof quantize === 'string' ? QUANTIZATIONS[quantize] : quantize;
  const { model, weights } = await openModel(modelFolder(name), undefined, quantization);
  const device = typeof asked === 'string' ? await openDevice(asked, options) : asked;
  return Classifier.compile(model, weights, device, typeof asked === 'string');
}

export class Classifier {
  private constructor(
    readonly model: Model,
    readonly config: ImagesConfig,
    private readonly executable: Executable,
    private readonly device: Device,
    private readonly ownsDevice: boolean,
  ) {}

  /** Throws `ConfigError` for a model of something other than images. With `ownsDevice` the device is disposed of with the model. */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    device: Device,
    ownsDevice = false,
  ): Promise<Classifier> {
    const { modality } = model;
    const config = (model.json as { input?: ImagesConfig }).input;
    if (!modality || config?.kind !== 'images')
      throw new ConfigError(`this is a model of ${modality?.kind ?? 'text'}, not of images`);
    const inputs = modalityInputs(modality);
    // An image is read whole: nothing is kept.
    const { said } = perceive(model, new ParameterRegistry(), inputs, scalar(0, 'int64'));
    const executable = await device.compile({ inputs: Object.values(inputs), outputs: said, weights });
    return new Classifier(model, config, executable, device, ownsDevice);
  }

  /**
   * Tells what is in an image, or in that of a PNG or JPEG file. One in other colours is turned into those that the model
   * reads; with `resize` one of another size is stretched. Throws `DataError` for a file that cannot be read, and for an image of
   * another size.
   */
  async classify(source: string | Image, { resize = false } = {}): Promise<Classification> {
    const { height, width, channels } = this.config;
    const read = typeof source === 'string' ? await readImage(source) : source;
    if (!resize && (read.height !== height || read.width !== width)) {
      const name = typeof source === 'string' ? source : 'the image';
      throw new DataError(
        `${name} has ${read.width} x ${read.height} pixels, and the model reads ${width} x ${height}: have it resized`,
      );
    }
    const image = resized(withChannels(read, channels), height, width);
    const { logits } = await this.executable.run({
      pixels: float32(pixelValues(image), [1, height, width, channels]),
    });
    return classificationOf(this.config.classes, logits!.data as Float32Array);
  }

  async dispose(): Promise<void> {
    await this.executable.dispose();
    if (this.ownsDevice) await this.device.dispose();
  }
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
