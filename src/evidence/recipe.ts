/** Digests that detect whether a design's construction or training has changed since a finding. */
import { createHash } from 'node:crypto';
import { isImageDesign, type Model, parametersOf, type Size } from '../models/index.js';
import { type PreparedTask, taskModel } from '../tasks/index.js';
import { initialWeights, TRAINING_DEFAULTS } from '../train/index.js';
import { type Keys, siblingModel } from './siblings.js';

/** An arbitrary task of tokens: the task's vocabulary changes the first and last layer, but not the design. */
const ANY = { reads: { vocabulary: 64 }, sequence: 64 };
/** The same of images, for networks of them. */
const ANY_IMAGES: Pick<PreparedTask, 'reads' | 'sequence'> = {
  reads: { kind: 'images', height: 28, width: 28, channels: 1, patch: 4, classes: ['a', 'b'] },
  sequence: 49,
};

/** A pattern whose layers have all kinds of parameters. */
const SAMPLE = taskModel(ANY, {
  design: 'hybrid',
  size: 'nano',
  set: {
    pattern: 'MS*DG-',
    hidden_size: 32,
    intermediate_size: 16,
    mamba_num_heads: 2,
    num_attention_heads: 1,
    num_key_value_heads: 1,
  },
});

let begins: string | undefined;
/** A cache by design, size and keys, since many works share them. */
const known = new Map<string, string>();

/** A digest of the design's model, of the initialization of parameters, and of the optimizer. */
export function recipeOf(design: string, size: Size, set: Keys = {}): string {
  const key = JSON.stringify([design, size, set]);
  const before = known.get(key);
  if (before !== undefined) return before;
  begins ??= initialDigest(SAMPLE);
  const model = modelDigest(siblingModel(readsImages(design, set) ? ANY_IMAGES : ANY, design, size, set));
  const recipe = digest(JSON.stringify([model, begins, TRAINING_DEFAULTS.optimizer]));
  known.set(key, recipe);
  return recipe;
}

/** Whether a design reads images only: other designs read anything, and have no keys of an input. */
function readsImages(design: string, set: Keys): boolean {
  return isImageDesign(design) || set.input !== undefined;
}

/** A digest of a model's config and of the shapes of its parameters. */
export function modelDigest(model: Model): string {
  const shapes = parametersOf(model).map(({ name, shape, decay }) => [name, shape, decay]);
  return digest(JSON.stringify([model.json, shapes]));
}

function initialDigest(model: Model): string {
  const hash = createHash('sha256');
  for (const { data } of initialWeights(parametersOf(model), 1).values())
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}
