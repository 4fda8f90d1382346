/** How much memory a training step cannot do without, to hold the process's peak against. */
import {
  expansionOf,
  gradient,
  input,
  inputName,
  isComposite,
  mean,
  type Node,
  type Tensor,
  topologicalOrder,
} from '../graph/index.js';
import { hybridModel } from '../models/index.js';
import { ParameterRegistry, stateBytes } from '../nn/index.js';
import { tokenLosses } from '../train/index.js';
import type { TrainingTask } from './plan.js';

/** Bytes each. */
export interface MemoryNeed {
  parameters: number;
  gradients: number;
  /** AdamW's two moments. */
  optimizer: number;
  activations: number;
  total: number;
}

/** Bytes that a training step cannot do without, by what they hold. */
export function trainingMemoryNeed({ config, batch, sequence }: TrainingTask): MemoryNeed {
  const registry = new ParameterRegistry();
  const tokens = input('tokens', 'int64', [batch, sequence + 1]);
  const loss = mean(tokenLosses(hybridModel(config), registry, tokens));
  const tensors = [...registry.tensors.values()];
  const parameters = tensors.reduce((total, tensor) => total + bytesOf(tensor), 0);
  const activations = activationBytes(loss, tensors);
  return {
    parameters,
    gradients: parameters,
    optimizer: 2 * parameters,
    activations,
    total: 4 * parameters + activations,
  };
}

/**
 * Bytes of what the forward pass computes and the backward pass reads again. A node is backward if the gradients depend
 * on it and the loss does not. A reshaped tensor is the same memory; what is fed (parameters, tokens) and what depends on
 * nothing that is fed were there before. All of it is alive at once when the backward pass begins.
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

/** What `roots` depend on, in order, with the insides of composites whose gradient is that of their expansion. */
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

/** The tensor whose memory this one is. */
function storageOf(tensor: Tensor): Tensor {
  const isView = ['reshape', 'detach'].includes(tensor.node.operator.name);
  return isView ? storageOf(tensor.node.inputs[0]!) : tensor;
}

function bytesOf({ dtype, shape }: Tensor): number {
  return stateBytes([{ name: '', dtype, shape, initial: 0 }], 0);
}
