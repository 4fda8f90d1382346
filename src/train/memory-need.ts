/** Lower bounds of the memory of a training step. */
import { inBytes } from '../checkpoint/index.js';
import { bytesOfWeight, type Device, mostMemoryOn } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  expansionOf,
  gradient,
  input,
  inputName,
  isComposite,
  type Node,
  type Tensor,
  topologicalOrder,
} from '../graph/index.js';
import { type Model, parametersOf } from '../models/index.js';
import { ParameterRegistry, stateBytes } from '../nn/index.js';
import type { Objective, TrainingData } from './data.js';
import type { Subject } from './equipment.js';
import type { OptimizerConfig } from './optimizer.js';
import type { PlacedPhase } from './phases.js';
import { statesBeside, trainedOf } from './program.js';
import type { TrainingSettings } from './settings.js';

/** Bytes each. */
export interface MemoryNeed {
  parameters: number;
  gradients: number;
  /** The moments, two for AdamW and one for Muon; and the present weights beside their average. */
  optimizer: number;
  activations: number;
  total: number;
}

/** An upper bound of a layer's activation bytes per input element: if even this fits, the graph is not built to count them. */
const MOST_ACTIVATIONS = 400;

/** Frozen weights in memory: the base of adapters, and a teacher. */
type Beside = Partial<Pick<Subject, 'base' | 'teacher'>>;

/** Throws `ConfigError` early if the least memory of a phase's step exceeds that of the device. */
export function expectRoomToTrain(
  { input: { device }, model, ...beside }: Pick<Subject, 'input' | 'model' | 'base' | 'teacher'>,
  phases: readonly PlacedPhase[],
  data: readonly TrainingData[],
): void {
  const room = mostMemoryOn(device);
  if (room === undefined) return;
  for (const [i, { settings }] of phases.entries()) {
    const { batch, optimizer, rates } = settings;
    const { objective } = data[i]!;
    let need = leastOn(device, weightsNeed(model, optimizer, rates, beside));
    const numbers = objective.inputs.reduce(
      (sum, { shape }) => sum + shape.reduce((a, b) => a * b, batch),
      0,
    );
    const most =
      numbers * model.hiddenSize * (model.layers.length + 1) * MOST_ACTIVATIONS +
      64 * model.vocabSize * numbers;
    if (!device.gpuMemory && need.total <= room && need.total + most > room)
      need = memoryNeed(model, objective, batch, optimizer, rates, beside);
    if (need.total <= room) continue;
    const where = device.gpuMemory
      ? 'that the GPU has for us'
      : room === device.addressable
        ? `that the ${device.name} device reaches`
        : 'there is here';
    const parts = [
      `weights ${inBytes(need.parameters)}`,
      `gradients ${inBytes(need.gradients)}`,
      `moments ${inBytes(need.optimizer)}`,
      ...(need.activations > 0 ? [`activations ${inBytes(need.activations)}`] : []),
    ];
    const remedy =
      need.activations > need.total / 2
        ? 'a smaller batch (with more of them a step: accumulate) or a shorter sequence'
        : 'a smaller model';
    throw new ConfigError(
      `a training step takes ${inBytes(need.total)} at least (${parts.join(', ')}), and ${inBytes(room)} is all ${where}: take ${remedy}`,
    );
  }
}

/**
 * The least memory of a step on a device. On XLA gradients may be in 16 bits, and activations are not counted, since the compiler may recompute
 * them.
 */
function leastOn({ gpuMemory }: Device, need: MemoryNeed): MemoryNeed {
  if (!gpuMemory) return need;
  const gradients = need.gradients / 2;
  return { ...need, gradients, total: need.total - gradients };
}

/**
 * The least bytes of a step of `batch` examples, by purpose. Frozen weights stay in their stored form.
 */
export function memoryNeed(
  model: Model,
  objective: Objective,
  batch: number,
  optimizer: OptimizerConfig,
  rates?: TrainingSettings['rates'],
  beside?: Beside,
): MemoryNeed {
  const weights = weightsNeed(model, optimizer, rates, beside);
  const registry = new ParameterRegistry();
  const named = (
    specs: readonly { name: string; dtype: Tensor['dtype']; shape: readonly (number | string)[] }[],
  ) =>
    Object.fromEntries(
      specs.map(({ name, dtype, shape }) => [name, input(name, dtype, [batch, ...(shape as number[])])]),
    );
  const inputs = named(objective.inputs);
  const before = objective.memory?.map((spec) => ({ ...spec, shape: spec.shape.slice(1) as number[] }));
  const { total } = objective.loss(model, registry, inputs, before && named(before));
  const trained = trainedOf(model, rates).flatMap(({ name, isStatistic }) => {
    const tensor = registry.tensors.get(name);
    return tensor && !isStatistic ? [tensor] : [];
  });
  const activations = activationBytes(total, trained);
  return { ...weights, activations, total: weights.total + activations };
}

/** The memory of parameters, gradients and optimizer states, with no activations: the need of an empty batch. */
export function weightsNeed(
  model: Model,
  optimizer: OptimizerConfig,
  rates?: TrainingSettings['rates'],
  { base, teacher }: Beside = {},
): MemoryNeed {
  const sizeOf = ({ shape }: { shape: readonly number[] }): number => 4 * shape.reduce((a, b) => a * b, 1);
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const trained = trainedOf(model, rates);
  const parameters = sum([
    ...parametersOf(model).map((spec) => {
      const weight = base?.get(spec.name);
      return weight ? bytesOfWeight(weight) : sizeOf(spec);
    }),
    ...Array.from(teacher?.weights.values() ?? [], bytesOfWeight),
  ]);
  const gradients = sum(trained.map((spec) => (spec.isStatistic ? 0 : sizeOf(spec))));
  const moments = sum(trained.map((spec) => statesBeside(spec, model, optimizer).length * sizeOf(spec)));
  return {
    parameters,
    gradients,
    optimizer: moments,
    activations: 0,
    total: parameters + gradients + moments,
  };
}

/**
 * The bytes of activations: values of the forward pass that the backward pass reads. A node belongs to the backward pass if the gradients depend
 * on it and the loss does not. A reshaped tensor shares the memory of its operand; inputs (parameters, tokens) and constants are not
 * activations. All activations are alive when the backward pass begins.
 */
export function activationBytes(loss: Tensor, parameters: readonly Tensor[]): number {
  const gradients = gradient(loss, parameters);
  const forward = forwardNodes([loss]);
  const kept = new Set<Tensor>();
  for (const node of topologicalOrder(gradients)) {
    if (forward.has(node)) continue;
    for (const operand of node.inputs) {
      if (operand && forward.has(operand.node)) kept.add(storageOf(operand));
    }
  }
  const fed = new Set<Node>();
  for (const node of forward) {
    if (inputName(node.outputs[0]!) ?? node.inputs.some((operand) => operand && fed.has(operand.node)))
      fed.add(node);
  }
  const computed = [...kept].filter(({ node }) => inputName(node.outputs[0]!) === undefined && fed.has(node));
  return computed.reduce((total, tensor) => total + bytesOf(tensor), 0);
}

/** The nodes that `roots` depend on, in topological order, including the expansions of composites without a gradient of their own. */
function forwardNodes(roots: readonly Tensor[], boundary?: ReadonlySet<Node>): Set<Node> {
  const nodes = new Set<Node>();
  for (const node of topologicalOrder(roots, boundary)) {
    if (isComposite(node.operator) && !node.operator.gradient && !boundary?.has(node)) {
      const operands = new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : [])));
      for (const inside of forwardNodes(expansionOf(node), operands)) nodes.add(inside);
    }
    nodes.add(node);
  }
  return nodes;
}

/** The tensor whose memory this one shares. */
function storageOf(tensor: Tensor): Tensor {
  const isView = ['reshape', 'detach'].includes(tensor.node.operator.name);
  return isView ? storageOf(tensor.node.inputs[0]!) : tensor;
}

function bytesOf({ dtype, shape }: Tensor): number {
  return stateBytes([{ name: '', dtype, shape, initial: 0 }], 0);
}
