/**
 * Exports a model as an ONNX file that ONNX Runtime runs on the CPU without Heddle. One graph prefills and decodes:
 *
 *     ids [batch, sequence], places [places], state  ->  logits [places, vocabulary], new state
 *
 * `places` are the indices into the flattened batch of the tokens whose logits are wanted: the last one for the next token, all of them to
 * score a text. The state, including the number of tokens read so far, is passed unchanged from each run to the next; keys and values are
 * returned whole. The weights stay in the model's safetensors file, which the ONNX file refers to as external data. A third file describes
 * the inputs and outputs.
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
/** The inputs and outputs of the graph. */
export const ONNX_DESCRIPTION_FILE = 'model.onnx.json';

/** A tensor; symbols are dimensions that may differ from run to run. */
interface Described {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** The contents of `model.onnx.json`. */
export interface OnnxDescription {
  readonly model: string;
  readonly inputs: Readonly<Record<string, Described>>;
  readonly outputs: Readonly<Record<string, Described>>;
  /** Before the first token every element is `initial` and `past` is 0; afterwards each output is the next run's input. */
  readonly states: readonly (Described & {
    readonly input: string;
    readonly output: string;
    readonly initial: number;
  })[];
  readonly eos_token_ids: readonly number[];
}

/** Writes both files into a folder with the model's weights. Throws `CheckpointError` if the weights do not fit the model. */
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

/** The location of each weight, relative to a model file in the same folder. */
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
