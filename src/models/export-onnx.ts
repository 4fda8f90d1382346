/**
 * A model as an ONNX file that ONNX Runtime runs on the CPU without us. One graph reads prompts and writes token by token:
 *
 *     ids [batch, sequence], places [places], and what is held  ->  logits [places, vocabulary], and what is held then
 *
 * `places` says of which tokens logits are wanted, counted in the flattened batch: one for the next token, all to score a
 * text. What is held, the number of tokens read so far included, goes back in as it came out; attention's keys and values
 * come back whole. The weights are not in that file: it points into the model's safetensors file beside it. A third file
 * lists what goes in and comes out, for whoever writes the loop.
 */
import { basename, join } from 'node:path';
import { writeFileAtomic } from '../checkpoint/index.js';
import {
  FUSED,
  isQuantized,
  isStored,
  type StoredPart,
  type TensorData,
  type Weight,
} from '../engine/index.js';
import { HeddleError } from '../errors.js';
import {
  add,
  concat,
  type Dim,
  type DType,
  dimension,
  input,
  type OnnxModel,
  type Tensor,
  toOnnx,
  type WeightPiece,
  type WeightSource,
} from '../graph/index.js';
import { locateWeights } from './folder.js';
import type { Model } from './model.js';
import { stepOf } from './step.js';

/** The file of an exported graph. */
export const ONNX_FILE = 'model.onnx';
/** What goes into the graph and comes out of it. */
export const ONNX_DESCRIPTION_FILE = 'model.onnx.json';

/** A tensor; symbols stand for dimensions that may differ from run to run. */
interface Described {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** What `model.onnx.json` holds. */
export interface OnnxDescription {
  readonly model: string;
  readonly inputs: Readonly<Record<string, Described>>;
  readonly outputs: Readonly<Record<string, Described>>;
  /** Before the first token every element is `initial`, and `past` is 0; then an output becomes the next run's input. */
  readonly states: readonly (Described & {
    readonly input: string;
    readonly output: string;
    readonly initial: number;
  })[];
  readonly eos_token_ids: readonly number[];
}

/** Writes both files into a folder that holds the model's weights. Throws `CheckpointError` where those do not fit it. */
export async function writeOnnx(folder: string, model: Model): Promise<void> {
  const { onnx, description } = encodeStep(model, await locateWeights(folder, model));
  await writeFileAtomic(join(folder, ONNX_FILE), onnx.bytes);
  await writeFileAtomic(join(folder, ONNX_DESCRIPTION_FILE), `${JSON.stringify(description, null, 2)}\n`);
}

function encodeStep(model: Model, weights: ReadonlyMap<string, Weight>) {
  const held = model.state.map((spec) => {
    return { ...spec, tensor: input(spec.name, spec.dtype, spec.shape), output: `next.${spec.name}` };
  });
  const state = Object.fromEntries(held.map(({ name, tensor }) => [name, tensor]));
  const { inputs, ...step } = stepOf(model, { state });
  const position = {
    dtype: 'int64',
    shape: [],
    input: 'position',
    output: 'next.position',
    initial: 0,
  } as const;
  const outputs: Record<string, Tensor> = {
    logits: step.logits,
    [position.output]: add(inputs[1], dimension('sequence')),
  };
  for (const { name, tensor, output, grows } of held) {
    const result = step.state[name]!;
    outputs[output] = grows === undefined ? result : concat([tensor, result], grows);
  }
  const onnx = toOnnx(outputs, { fused: FUSED.cpu, weights: piecesOf(weights) });
  const states = [
    position,
    ...held.map(({ name, dtype, shape, output, initial }) => {
      return { dtype, shape, input: name, output, initial };
    }),
  ];
  const description: OnnxDescription = {
    model: ONNX_FILE,
    inputs: described(onnx.inputs, ({ name }) => name === 'ids' || name === 'places'),
    outputs: described(onnx.outputs, ({ name }) => name === 'logits'),
    states,
    eos_token_ids: model.eosTokenIds,
  };
  return { onnx, description };
}

function described(
  types: OnnxModel['inputs'],
  wanted: (type: OnnxModel['inputs'][number]) => boolean,
): Record<string, Described> {
  return Object.fromEntries(types.filter(wanted).map(({ name, dtype, shape }) => [name, { dtype, shape }]));
}

/** Where each weight is, seen from a model file in the same folder. */
export function piecesOf(weights: ReadonlyMap<string, Weight>): Map<string, WeightSource> {
  return new Map(
    Array.from(weights, ([name, weight]): [string, WeightSource] => {
      const pieceOf = (part: StoredPart | TensorData): WeightPiece => {
        if (!('path' in part)) throw new HeddleError('internal', `${name} is not stored as ONNX has it`);
        const { dtype, path, byteOffset, byteLength } = part;
        return { type: dtype, location: basename(path), byteOffset, byteLength };
      };
      if (isQuantized(weight)) {
        const { bits, block, codes, scales } = weight;
        return [name, { bits, block, codes: pieceOf(codes), scales: pieceOf(scales) }];
      }
      return [name, (isStored(weight) ? weight.parts : [weight.data]).map(pieceOf)];
    }),
  );
}
