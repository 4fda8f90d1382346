/** A scan as a tree of few large kernels instead of a loop of many small ones. */
import type { StableHloBuilder } from './builder.js';
import { type Plain, replaced } from './value.js';

/** Steps that are combined into one on the next level of the tree. */
const JOINED = 4;

/** The operands of a scan, all in float32. */
interface Steps {
  readonly transition: Plain;
  readonly added: Plain;
  /** The initial state, in the shape of one step of what is added. */
  readonly initial: Plain;
}

/** The products of a scan's transitions. Both operands have the same number of steps along the scan's axis. */
export interface ScanProduct {
  /** A S */
  act(transition: Plain, state: Plain): Plain;
  /** A_2 A_1, the transition of two steps in a row. */
  compose(second: Plain, first: Plain): Plain;
}

/**
 * The scan S' = A_n S + B_n: the state before each step, along `axis`. Two consecutive steps are one step with A = A_2 A_1 and B = A_2 B_1 +
 * B_2. So groups of four steps are combined, a recursive scan over the groups gives the state before each group, and the states within follow.
 * The number of kernels is logarithmic in the steps, and each number is moved some eight times. See Blelloch, Prefix sums and their
 * applications (1990).
 */
export function treeScan(
  builder: StableHloBuilder,
  { transition, added, initial }: Steps,
  { act, compose }: ScanProduct,
  axis: number,
  reverse: boolean,
): Plain {
  const steps = added.dims[axis]!;
  const joined = Math.ceil(steps / JOINED);
  const filling = joined * JOINED - steps;
  /** The dims of x with the axis split into `joined` groups of `size` steps. */
  const inFours = (x: Plain, size: number): number[] => [
    ...x.dims.slice(0, axis),
    joined,
    size,
    ...x.dims.slice(axis + 1),
  ];
  /** The first, second, third and fourth step of every group. The last group is padded at the end. */
  const inTurn = (x: Plain): Plain[] => {
    const filled = filling === 0 ? x : builder.pad(x, axis, reverse ? filling : 0, reverse ? 0 : filling);
    const apart = builder.reshape(filled, inFours(x, JOINED));
    const each = Array.from({ length: JOINED }, (_, i) =>
      builder.reshape(builder.slice(apart, axis + 1, i, i + 1), replaced(x.dims, axis, joined)),
    );
    return reverse ? each.reverse() : each;
  };
  const transitions = inTurn(transition);
  const terms = inTurn(added);
  const moved = (i: number, state: Plain): Plain =>
    builder.binary('add', act(transitions[i]!, state), terms[i]!);

  const before =
    joined === 1
      ? initial
      : treeScan(
          builder,
          {
            transition: transitions.reduce((first, second) => compose(second, first)),
            added: terms.reduce((sum, _, i) => moved(i, sum)),
            initial,
          },
          { act, compose },
          axis,
          reverse,
        );
  const states = [before];
  for (let i = 1; i < JOINED; i++) states.push(moved(i - 1, states[i - 1]!));
  const each = states.map((x) => builder.reshape(x, inFours(x, 1)));
  if (reverse) each.reverse();
  const all = builder.reshape(builder.concat(each, axis + 1), replaced(added.dims, axis, joined * JOINED));
  const from = reverse ? filling : 0;
  return builder.slice(all, axis, from, from + steps);
}
