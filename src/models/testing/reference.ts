/** Reference checkpoints (test/fixtures): tiny ones with what transformers computes of them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openSafetensors } from '../../checkpoint/index.js';

const root = fileURLToPath(new URL('../../../test/fixtures/', import.meta.url));

/** What transformers computed for a tiny checkpoint. */
export interface Reference {
  readonly folder: string;
  /** int64 [batch, sequence] */
  readonly ids: number[][];
  /** [batch, sequence, vocabulary] */
  readonly logits: Float32Array;
  readonly hiddenStates: readonly Float32Array[];
  /** Of the mean next-token loss, for the smaller parameters. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
  readonly loss: number;
  readonly gradientNorms: Readonly<Record<string, number>>;
  readonly prompt: readonly number[];
  readonly greedy: readonly number[];
}

/** The names of the checkpoints in a folder of fixtures. */
export function referenceNames(kind: 'hf' | 'variants'): string[] {
  return readdirSync(join(root, kind)).sort();
}

/** The folder of a checkpoint. */
export function fixtureFolder(kind: 'hf' | 'variants', name: string): string {
  return join(root, kind, name);
}

/** Reads the reference of a fixture: a family's checkpoint, or a variant with other options. */
export async function readReference(kind: 'hf' | 'variants', name: string): Promise<Reference> {
  const folder = fixtureFolder(kind, name);
  const json = JSON.parse(readFileSync(join(folder, 'reference.json'), 'utf8'));
  const file = await openSafetensors(join(folder, 'reference.safetensors'));
  const ids = await file.read('input_ids');
  const width = ids.shape[1]!;
  const flat = Array.from(ids.data as BigInt64Array, Number);
  const floats = (key: string): Promise<Float32Array> => file.readFloat32(key);
  const keys = [...file.tensors.keys()];
  const gradients = new Map<string, Float32Array>();
  for (const key of keys) {
    if (key.startsWith('grad.')) gradients.set(key.slice('grad.'.length), await floats(key));
  }
  const states = keys.filter((key) => key.startsWith('hidden_states.'));
  const reference = {
    folder,
    ids: Array.from({ length: ids.shape[0]! }, (_, row) => flat.slice(row * width, (row + 1) * width)),
    logits: await floats('logits'),
    hiddenStates: await Promise.all(states.map((_, i) => floats(`hidden_states.${i}`))),
    gradients,
    loss: json.loss,
    gradientNorms: json.grad_norms,
    prompt: json.prompt,
    greedy: json.greedy_cached,
  };
  await file.close();
  return reference;
}
