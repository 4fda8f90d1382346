/** The parts of an adapter that are computed from the base model's weights when it is loaded. */
import { float32, type HostTensor } from '../engine/index.js';
import { forEachWeight } from './folder.js';
import { type Adapted, adapterNames, linearLayers, plusProduct } from './lora.js';
import type { AdapterParts } from './lora-parts.js';
import type { Model } from './model.js';

/**
 * The model with an adapter of these parts; `base` is the folder of its weights. Computes DoRA's factors, and applies changes of the embedding
 * and the head to their matrices. Throws as `readWeights` does.
 */
export async function withBase(parts: AdapterParts, model: Model, base: string): Promise<Adapted> {
  const { adapters, halves, magnitudes, whole, changes, tokenRows, leavesTiedHead } = parts;
  const weights = new Map([...halves, ...whole]);
  const embeddings = `${model.names.embeddings}.weight`;
  const head = `${model.names.head}.weight`;
  const untied = model.tieWordEmbeddings && (whole.has(head) || changes.head || leavesTiedHead);
  const uses = linearLayers(model).filter(({ module }) => magnitudes.has(module));
  // A tied head is stored as the embedding.
  const storedHead = model.tieWordEmbeddings ? embeddings : head;

  const needed = new Set(uses.map(({ weight }) => weight));
  if (changes.embeddings || tokenRows) needed.add(embeddings);
  if (changes.head || (untied && !whole.has(head))) needed.add(storedHead);
  const use = (name: string, weight: HostTensor): void => {
    for (const { module } of uses.filter((layer) => layer.weight === name)) {
      const { a, b, factors } = adapterNames(module);
      const { scale } = adapters.get(module)!;
      const lengths = rowLengths(plusProduct(weight, halves.get(b)!, halves.get(a)!, scale));
      const wanted = magnitudes.get(module)!.data as Float32Array;
      weights.set(
        factors,
        float32(
          wanted.map((length, i) => length / lengths[i]!),
          [wanted.length],
        ),
      );
    }
    if (name === storedHead && needed.has(storedHead) && (changes.head || untied) && !whole.has(head)) {
      const { A, B, scale } = changes.head ?? {};
      weights.set(head, A ? plusProduct(weight, B!, A, scale!) : weight);
    }
    if (name !== embeddings) return;
    if (changes.embeddings) {
      const { A, B, scale } = changes.embeddings;
      weights.set(embeddings, plusProduct(weight, B, A, scale));
    }
    if (tokenRows) weights.set(embeddings, withRows(weight, tokenRows.indices, tokenRows.values));
  };
  if (needed.size > 0) await forEachWeight(base, model, use, (name) => needed.has(name));

  const lowRank = new Map(
    [...adapters].map(([module, adapter]) => [
      module,
      magnitudes.has(module) ? { ...adapter, hasFactors: true } : adapter,
    ]),
  );
  const own = untied ? withOwnHead(model) : model;
  return { model: { ...own, adapters: (module) => lowRank.get(module) }, weights };
}

/** The Euclidean norms of a matrix's rows; at least the smallest positive float32, to avoid a division by 0. */
function rowLengths({ dims, data }: HostTensor): Float32Array {
  const [rows, columns] = dims as [number, number];
  return Float32Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) sum += (data[i] as number) ** 2;
    return Math.max(Math.sqrt(sum), 2 ** -126);
  });
}

/** A matrix with some of its rows replaced. */
function withRows({ dims, data }: HostTensor, indices: readonly number[], rows: HostTensor): HostTensor {
  const width = dims[1]!;
  const values = Float32Array.from(data as Float32Array);
  for (const [i, index] of indices.entries()) {
    values.set((rows.data as Float32Array).subarray(i * width, (i + 1) * width), index * width);
  }
  return float32(values, dims);
}

/** A model with a tied head, with the head untied. */
function withOwnHead(model: Model): Model {
  const keys = ['tieWordEmbeddings', 'tie_embedding', 'tie_word_embeddings'];
  const written = keys.filter((key) => key in model.json);
  const changed = written.length > 0 ? written : [model.modelType === 'heddle' ? keys[0]! : keys[2]!];
  const json = { ...model.json, ...Object.fromEntries(changed.map((key) => [key, false])) };
  return { ...model, tieWordEmbeddings: false, json };
}
