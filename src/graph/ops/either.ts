/** One of two parts of the graph, of which only that one is computed. */

import { ShapeError } from '../../errors.js';
import { eitherInWasm } from '../lower/wasm/bodies.js';
import { type Dim, type Shape, sameShape } from '../shape.js';
import { apply, definePrimitive, nextSerial, type Tensor } from '../tensor.js';
import { type Body, bodyOf } from './body.js';

interface EitherAttributes {
  readonly flag: Dim;
  readonly branches: readonly [Body, Body];
  readonly shapes: readonly Shape[];
}

const eitherOperator = definePrimitive<EitherAttributes>({
  name: 'either',
  infer(_, { branches: [one, other], shapes }) {
    for (const [i, { dtype, shape }] of one.results.entries()) {
      const alternative = other.results[i];
      if (dtype !== alternative?.dtype || shape.length !== alternative.shape.length) {
        throw new ShapeError(`the branches make different things of result ${i}`);
      }
    }
    return one.results.map(({ dtype }, i) => ({ dtype, shape: shapes[i]! }));
  },
  lower: {
    onnx(builder, _, { attributes: { flag, branches } }) {
      const [size] = builder.emit('Squeeze', [builder.dim(flag)]) as [string];
      const isSet = builder.cast(size, 'bool');
      const [one, other] = branches.map((branch) => ({ graph: builder.subgraph(branch) }));
      return builder.emit('If', [isSet], {
        attributes: { then_branch: one!, else_branch: other! },
        outputs: branches[0].results.length,
      });
    },
    wasm: (builder, _, node) => eitherInWasm(builder, node, node.attributes.flag, node.attributes.branches),
  },
});

let built = 0;

/**
 * What `compute` makes where the size `flag` is 1, or what `otherwise` makes where it is 0. All that the one builds is computed in
 * that case alone. A dimension in which the two differ becomes a new symbol. There is no gradient through it.
 */
export function either(
  flag: Dim,
  compute: () => readonly Tensor[],
  otherwise: () => readonly Tensor[],
): readonly Tensor[] {
  const name = `either${built++}`;
  const parts = [compute, otherwise].map((make, i) => {
    const first = nextSerial();
    const results = make();
    return bodyOf(`${name}.${i}`, [], results, ({ serial }) => serial >= first);
  });
  const [one, other] = parts as [(typeof parts)[number], (typeof parts)[number]];
  const shapes = one.body.results.map(({ shape }, i) =>
    shape.map((dim, axis) => {
      const alternative = other.body.results[i]?.shape[axis];
      return alternative !== undefined && sameShape([dim], [alternative]) ? dim : `${name}_${i}_${axis}`;
    }),
  );
  const captured = [...new Set([...one.captured, ...other.captured])];
  return apply(eitherOperator, captured, { flag, branches: [one.body, other.body], shapes });
}

/** `either` for one value, which is `otherwise` where there is nothing to compute. */
export function when(flag: Dim, otherwise: Tensor, compute: () => Tensor): Tensor {
  return either(
    flag,
    () => [compute()],
    () => [otherwise],
  )[0]!;
}
