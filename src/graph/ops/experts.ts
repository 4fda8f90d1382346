/**
 * A mixture of expert MLPs (Shazeer et al., 2017), of which each token uses a few. In the expansion every expert computes every token, which
 * gradients need; kernels compute only the selected experts.
 */

import { ShapeError } from '../../errors.js';
import { type OnnxBuilder, valueInfo } from '../lower/onnx/builder.js';
import { packedProduct } from '../lower/onnx/packed.js';
import { chosenExperts } from '../lower/stablehlo/experts.js';
import { expertsInWasm } from '../lower/wasm/experts.js';
import { formatShape, type Shape, sameShape } from '../shape.js';
import {
  applyOne,
  defineComposite,
  expansionIsUsed,
  type Node,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { relu2, silu } from './activation.js';
import { reshape, sum } from './broadcast.js';
import { multiply } from './elementwise.js';
import { split, transpose } from './layout.js';
import { matmul } from './matmul.js';

/** `swiglu`: silu of the first half of `up`'s rows, times the second half. `relu2`: max(., 0)^2. */
export type ExpertActivation = 'swiglu' | 'relu2';

/** The options of `experts`. */
export interface ExpertOptions {
  readonly activation: ExpertActivation;
  /** The most nonzero weights of a token. */
  readonly perToken: number;
}

const expertsOperator = defineComposite<ExpertOptions>({
  name: 'experts',
  infer(inputs, { activation, perToken }) {
    const [x, weights, up, down] = inputs as [TensorType, TensorType, TensorType, TensorType];
    if (x.shape.length !== 2 || down.shape.length !== 3) {
      throw new ShapeError('expected x [tokens, hidden] and down [experts, hidden, inner]');
    }
    const [tokens, hidden] = x.shape;
    const [count, , inner] = down.shape as readonly number[];
    const expectShape = (what: string, { shape }: TensorType, wanted: Shape): void => {
      if (!sameShape(shape, wanted)) throw new ShapeError(`${what} must be ${formatShape(wanted)}`);
    };
    expectShape('the weights', weights, [tokens!, count!]);
    expectShape('up', up, [count!, activation === 'swiglu' ? 2 * inner! : inner!, hidden!]);
    expectShape('down', down, [count!, hidden!, inner!]);
    if (perToken < 1 || perToken > count!) {
      throw new ShapeError(`a token cannot use ${perToken} of ${count} experts`);
    }
    return [{ dtype: 'float32', shape: [tokens!, hidden!] }];
  },
  kernels: {
    onnx(builder, inputs, node) {
      // With a gradient every expert computes every token anyway.
      if (expansionIsUsed(node as Node, builder.used)) return undefined;
      const isPacked = [inputs[2], inputs[3]].some((matrix) => builder.quantized.has(matrix!));
      if (node.attributes.activation === 'swiglu' && !isPacked) {
        return builder.fused.has('MoE') ? lowerToMoE(builder, inputs, node) : undefined;
      }
      return builder.fused.has('NonZero') ? lowerToLoop(builder, inputs, node) : undefined;
    },
    wasm: (builder, inputs, node) =>
      expansionIsUsed(node as Node, builder.used)
        ? undefined
        : expertsInWasm(builder, inputs, node.attributes),
    stablehlo(builder, inputs, node) {
      if (expansionIsUsed(node as Node, builder.used)) return undefined;
      const made = chosenExperts(builder, inputs, node.attributes);
      return made && [made];
    },
  },
  expand([x, weights, up, down], { activation }) {
    const [count, , size] = down!.shape as readonly [number, number, number];
    const raised = matmul(x!, up!, { transposeB: true });
    const activate = (): Tensor => {
      if (activation === 'relu2') return relu2(raised);
      const [gate, value] = split(raised, 2, [size, size]);
      return multiply(silu(gate!), value!);
    };
    const shares = reshape(transpose(weights!, [1, 0]), [count, -1, 1]);
    return [sum(matmul(multiply(activate(), shares), down!, { transposeB: true }), 0)];
  },
});

/**
 * The kernel applies a softmax and selects the `k` best. With the logarithms of our weights as input, the softmax gives our weights divided by
 * their sum.
 */
function lowerToMoE(
  builder: OnnxBuilder,
  [x, weights, up, down]: readonly string[],
  { inputs, attributes: { perToken } }: Node<ExpertOptions>,
): string[] {
  const rows = inputs[2]!.shape[1] as number;
  // It expects the rows of gate and value interleaved. For constant weights the permutation is folded.
  const turns = BigInt64Array.from({ length: rows }, (_, i) => BigInt((i % 2) * (rows / 2) + (i >> 1)));
  const [interleaved] = builder.emit('Gather', [up!, builder.constant(turns, [rows], 'int64')], {
    attributes: { axis: { int: 1 } },
  });
  const [positive] = builder.emit('Max', [weights!, builder.scalar(1e-37)]);
  const [logarithms] = builder.emit('Log', [positive!]);
  const [mixed] = builder.emit('MoE', [x!, logarithms!, interleaved!, '', down!, ''], {
    domain: 'com.microsoft',
    attributes: {
      k: { int: perToken },
      activation_type: { string: 'swiglu' },
      activation_alpha: { float: 1 },
      activation_beta: { float: 0 },
      swiglu_fusion: { int: 1 },
      normalize_routing_weights: { int: 0 },
    },
  });
  const [total] = builder.emit('ReduceSum', [weights!, builder.ints([1])]);
  // ORT's MoE may write its result into x's buffer while it still reads x, unless x is used later: this Where uses it.
  const never = builder.scalar(0, 'bool');
  const [whole] = builder.emit('Where', [never, x!, mixed!]);
  return builder.emit('Mul', [whole!, total!]);
}

/** A loop over the experts that any token uses: each computes its tokens, and adds to their results. */
function lowerToLoop(
  builder: OnnxBuilder,
  [x, weights, up, down]: readonly string[],
  { inputs, outputs, attributes: { activation } }: Node<ExpertOptions>,
): string[] {
  const first = builder.ints([0]);
  const flipped = { attributes: { perm: { ints: [1, 0] } } };
  const [largest] = builder.emit('ReduceMax', [weights!, first], { attributes: { keepdims: { int: 0 } } });
  const [used] = builder.emit('Squeeze', [builder.emit('NonZero', [largest!])[0]!, first]);
  const [trips] = builder.emit('Size', [used!]);
  const [byExpert] = builder.emit('Transpose', [weights!], flipped);
  const [nothing] = builder.emit('Expand', [builder.scalar(0), builder.shape(outputs[0]!.shape)]);

  const body = builder.inner();
  const names = { iteration: `${used}/iteration`, condition: `${used}/condition`, sum: `${used}/sum` };
  const proceed = body.scalar(1, 'bool');
  const [expert] = body.emit('Gather', [used!, names.iteration]);
  const ofExpert = (matrix: string): string => body.emit('Gather', [matrix, expert!])[0]!;
  const product = (rows: string, matrix: string): string => {
    const packed = body.quantized.get(matrix);
    if (packed) return packedProduct(body, rows, packed, expert)[0]!;
    return body.emit('Gemm', [rows, ofExpert(matrix)], { attributes: { transB: { int: 1 } } })[0]!;
  };
  const activated = (raised: string): string => {
    if (activation === 'relu2') {
      const [positive] = body.emit('Relu', [raised]);
      return body.emit('Mul', [positive!, positive!])[0]!;
    }
    const inner = inputs[3]!.shape[2] as number;
    const halves = body.ints([inner, inner]);
    const [gate, value] = body.emit('Split', [raised, halves], {
      outputs: 2,
      attributes: { axis: { int: 1 } },
    });
    const [sigmoid] = body.emit('Sigmoid', [gate!]);
    const [silu] = body.emit('Mul', [gate!, sigmoid!]);
    return body.emit('Mul', [silu!, value!])[0]!;
  };
  const shares = ofExpert(byExpert!);
  const [tokens] = body.emit('Transpose', [body.emit('NonZero', [shares])[0]!], flipped);
  const raised = product(body.emit('GatherND', [x!, tokens!])[0]!, up!);
  const [shared] = body.emit('Mul', [activated(raised), body.emit('Gather', [shares, tokens!])[0]!]);
  const [before] = body.emit('GatherND', [names.sum, tokens!]);
  const [after] = body.emit('Add', [before!, product(shared!, down!)]);
  const [sum] = body.emit('ScatterND', [names.sum, tokens!, after!]);
  const [next] = body.emit('Identity', [proceed]);
  const shape = outputs[0]!.shape.map((dim) => builder.resolve(dim));
  const graph = {
    name: `${used}/body`,
    node: body.nodes,
    initializer: body.initializers,
    input: [
      valueInfo(names.iteration, 'int64', []),
      valueInfo(names.condition, 'bool', []),
      valueInfo(names.sum, 'float32', shape),
    ],
    output: [valueInfo(next!, 'bool', []), valueInfo(sum!, 'float32', shape)],
  };
  return builder.emit('Loop', [trips!, '', nothing!], { attributes: { body: { graph } } });
}

/** The operands of `experts`. */
export interface ExpertInputs {
  /** [tokens, hidden] */
  x: Tensor;
  /** [tokens, experts], nonnegative, and 0 for experts that a token does not use. */
  weights: Tensor;
  /** [experts, inner, hidden], or [experts, 2 * inner, hidden] for `swiglu`. */
  up: Tensor;
  /** [experts, hidden, inner] */
  down: Tensor;
}

/** y_t = sum over experts e of weights[t, e] * down_e activation(up_e x_t): [tokens, hidden]. */
export function experts({ x, weights, up, down }: ExpertInputs, options: ExpertOptions): Tensor {
  return applyOne(expertsOperator, [x, weights, up, down], options);
}
