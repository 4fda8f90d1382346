/** Mixtures of experts for few tokens: each token reads only the matrices of its own experts. */
import type { ExpertOptions } from '../../ops/experts.js';
import type { StableHloBuilder } from './builder.js';
import { gatherElements, takeRows, topK } from './indexing.js';
import { count, type Plain, type Value } from './value.js';

/** f32 [tokens, hidden]; undefined if the tokens use so many experts that computing all of them is no more work. */
export function chosenExperts(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  { activation, perToken }: ExpertOptions,
): Plain | undefined {
  const [x, weights, up, down] = operands as readonly Value[];
  const shares = builder.wide(weights!);
  const [tokens, experts] = shares.dims as [number, number];
  if (tokens * perToken >= experts) return undefined;
  const [, chosen] = topK(builder, builder.unary('abs', shares), perToken, 1, 'i32');
  const share = builder.reshape(gatherElements(builder, shares, chosen, 1), [tokens, perToken, 1]);
  const inner = down!.dims[2]!;
  const raised = builder.dot(
    matricesOf(builder, up!, chosen),
    builder.narrow(x!),
    { batch: [[0, 0]], contract: [[3, 1]] },
    'f32',
  );
  const weighed = builder.binary('multiply', activated(builder, raised, activation, inner), share);
  return builder.dot(
    matricesOf(builder, down!, chosen),
    builder.narrow(weighed),
    {
      batch: [[0, 0]],
      contract: [
        [1, 1],
        [3, 2],
      ],
    },
    'f32',
  );
}

/** Gathers the selected matrices [tokens, perToken, rows, columns] of [experts, rows, columns]; only these are dequantized. */
function matricesOf(builder: StableHloBuilder, matrices: Value, chosen: Plain): Plain {
  if (matrices.kind === 'plain') return takeRows(builder, builder.narrow(matrices), chosen);
  const [experts, rows] = matrices.dims as [number, number];
  const taken = (x: Plain): Plain => {
    const made = takeRows(builder, builder.reshape(x, [experts, rows, x.dims[1]!]), chosen);
    return builder.reshape(made, [count(made.dims) / x.dims[1]!, x.dims[1]!]);
  };
  return builder.narrow({
    ...matrices,
    dims: [...chosen.dims, ...matrices.dims.slice(1)],
    codes: taken(matrices.codes),
    scales: taken(matrices.scales),
  });
}

function activated(
  builder: StableHloBuilder,
  raised: Plain,
  activation: ExpertOptions['activation'],
  inner: number,
): Plain {
  if (activation === 'relu2') {
    const positive = builder.binary('maximum', raised, builder.splat(0, raised.element));
    return builder.binary('multiply', positive, positive);
  }
  const gate = builder.slice(raised, 2, 0, inner);
  const silu = builder.binary('multiply', gate, builder.unary('logistic', gate));
  return builder.binary('multiply', silu, builder.slice(raised, 2, inner, 2 * inner));
}
