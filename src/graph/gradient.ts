/** Reverse-mode automatic differentiation: walks the graph backwards and builds the gradient's nodes. */
import { ShapeError } from '../errors.js';
import { fill } from './ops/constant.js';
import { add } from './ops/elementwise.js';
import { formatShape, sameShape } from './shape.js';
import {
  expansionOf,
  type GradientContext,
  isDifferentiable,
  type Node,
  scope,
  type Tensor,
  topologicalOrder,
} from './tensor.js';

/** The gradient of an operator (vector-Jacobian product): dL/d(input) for each input. */
export type GradientRule = (context: GradientContext<unknown>) => (Tensor | undefined)[];

/** Rules that replace the operators' own, by operator name. */
export type GradientRules = Readonly<Record<string, GradientRule>>;

/**
 * dL/dp for each of `parameters`, where L = sum over roots of <root, seed>; by default `roots` is one scalar loss
 * with seed 1. A parameter on which L does not depend gets zeros. With other `rules` the result is theirs instead of a derivative.
 */
export function gradient(
  roots: Tensor | readonly Tensor[],
  parameters: readonly Tensor[],
  seeds?: readonly Tensor[],
  rules: GradientRules = {},
): Tensor[] {
  const targets = Array.isArray(roots) ? (roots as readonly Tensor[]) : [roots as Tensor];
  return backpropagate(targets, parameters, seeds, rules);
}

/** The same for `roots` as functions of `operands`, which are treated as leaves: the gradient of a composite by its expansion. */
export function gradientInside(
  roots: readonly Tensor[],
  operands: readonly Tensor[],
  seeds: readonly Tensor[],
): Tensor[] {
  return backpropagate(roots, operands, seeds, {}, new Set(operands.map(({ node }) => node)));
}

/** `boundary` nodes are treated as leaves. */
function backpropagate(
  targets: readonly Tensor[],
  parameters: readonly Tensor[],
  seeds: readonly Tensor[] | undefined,
  rules: GradientRules,
  boundary: ReadonlySet<Node> = new Set(),
): Tensor[] {
  const order = topologicalOrder(targets, boundary);
  const dependent = nodesDependingOn(order, parameters);
  const gradients = new Map<Tensor, Tensor>();
  const accumulate = (tensor: Tensor, part: Tensor): void => {
    if (!sameShape(tensor.shape, part.shape)) {
      throw new ShapeError(
        `the gradient of ${tensor.node.operator.name} has shape ${formatShape(part.shape)}, not ${formatShape(tensor.shape)}`,
      );
    }
    const sum = gradients.get(tensor);
    gradients.set(tensor, sum ? add(sum, part) : part);
  };
  for (const [i, target] of targets.entries()) {
    const seed = seeds?.[i];
    if (!seed && target.rank > 0)
      throw new ShapeError('the gradient of a tensor that is no scalar needs a seed');
    accumulate(target, seed ?? fill([], 1));
  }

  for (const node of order.reverse()) {
    if (!dependent.has(node) || boundary.has(node) || !isDifferentiable(node.operator)) continue;
    const outputGradients = node.outputs.map((output) => gradients.get(output));
    if (outputGradients.every((g) => g === undefined)) continue;
    const inputGradients = scope('gradient', () =>
      scope(node.path, () => ruleOf(node, dependent, rules)(outputGradients)),
    );
    for (const [i, operand] of node.inputs.entries()) {
      const part = inputGradients[i];
      if (operand && part && dependent.has(operand.node)) accumulate(operand, part);
    }
  }
  return parameters.map((parameter) => gradients.get(parameter) ?? fill(parameter.shape, 0));
}

function nodesDependingOn(order: readonly Node[], parameters: readonly Tensor[]): Set<Node> {
  const dependent = new Set<Node>(parameters.map((parameter) => parameter.node));
  for (const node of order) {
    if (
      isDifferentiable(node.operator) &&
      node.inputs.some((operand) => operand && dependent.has(operand.node))
    )
      dependent.add(node);
  }
  return dependent;
}

type Rule = (outputGradients: (Tensor | undefined)[]) => (Tensor | undefined)[];

function ruleOf(node: Node, dependent: ReadonlySet<Node>, rules: GradientRules): Rule {
  const operator = node.operator;
  const needs = (i: number): boolean => {
    const operand = node.inputs[i];
    return operand !== undefined && dependent.has(operand.node);
  };
  const rule = rules[operator.name] ?? operator.gradient?.bind(operator);
  return (outputGradients) => {
    const own = rule?.({
      node,
      inputs: node.inputs,
      outputs: node.outputs,
      attributes: node.attributes,
      outputGradients,
      needs,
    });
    if (own) return own;
    // A composite without its own rule gets the gradient of its expansion.
    const expansion = expansionOf(node);
    const used = expansion.flatMap((root, i) =>
      outputGradients[i] ? [{ root, seed: outputGradients[i]! }] : [],
    );
    // An operand that occurs twice gets one gradient, for both uses together.
    const first = node.inputs.map((operand, i) => needs(i) && node.inputs.indexOf(operand) === i);
    const wanted = node.inputs.flatMap((operand, i) => (first[i] ? [operand!] : []));
    const parts = backpropagate(
      used.map(({ root }) => root),
      wanted,
      used.map(({ seed }) => seed),
      rules,
      new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : []))),
    );
    return first.map((isFirst) => (isFirst ? parts.shift() : undefined));
  };
}
