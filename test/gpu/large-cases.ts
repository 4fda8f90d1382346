/** Cases of sizes at which the GPU computes in another way than for the operators' small ones: cuDNN's attention, many chunks, and kernels of our own. */
import { int64 } from '../../src/engine/index.js';
import {
  type AttentionOptions,
  attention,
  type RecurrenceInputs,
  selectiveScan,
  type Tensor,
} from '../../src/graph/index.js';
import { linearRecurrence } from '../../src/graph/ops/recurrence.js';
import { eraseOperands, type Options, recurrenceOperands } from '../../src/graph/ops/testing/recurrence.js';
import { SCAN_OPERANDS, scanOperands } from '../../src/graph/ops/testing/selective-scan.js';
import type { OperatorCase } from '../../src/graph/testing/operator-case.js';
import { uniform } from '../../src/graph/testing/random.js';

/** What a device is compared with another on: the gradient too, but for what computes in another way where there is one. */
export interface ComparedCase extends Omit<OperatorCase, 'expected'> {
  readonly isForwardOnly?: boolean;
}

const [BATCH, HEADS, SHARED, SIZE] = [2, 4, 2, 64];

/** cuDNN takes heads of 64 numbers and a multiple of 64 tokens. */
function fused(name: string, tokens: number, options: Partial<AttentionOptions>, room = 0): ComparedCase {
  const [queries, entries, past] = [
    [BATCH, HEADS, tokens, SIZE],
    [BATCH, SHARED, tokens, SIZE],
    [BATCH, SHARED, room, SIZE],
  ];
  return {
    name: `cuDNN: ${name}`,
    isForwardOnly: room > 0,
    operands: [
      uniform(1, queries!),
      uniform(2, entries!),
      uniform(3, entries!),
      ...(room > 0 ? [uniform(4, past!), uniform(5, past!), int64([0, room - 58], [BATCH])] : []),
    ],
    build(query, key, value, pastKey, pastValue, held) {
      const before = pastKey && { key: pastKey, value: pastValue!, lengths: held! };
      const operands = { query: query!, key: key!, value: value!, ...(before && { past: before }) };
      return attention(operands, { scale: 0.125, causal: true, ...options }).output;
    },
  };
}

function chunked(name: string, tokens: number, options: Options): ComparedCase {
  const heads = { query: 1, key: 1, value: 3 };
  const operands = recurrenceOperands({ heads, keySize: 16, valueSize: 8 }, [2, tokens], options);
  const names = Object.keys(operands);
  return {
    name: `${tokens} tokens, ${name}`,
    operands: Object.values(operands),
    build(...given) {
      const named = Object.fromEntries(names.map((key, i) => [key, given[i]!]));
      const { output, state } = linearRecurrence(named as never, heads);
      return [output, state];
    },
  };
}

/** Heads of sizes for which there are kernels, over several chunks. */
function inKernels(name: string, options: Options, erases?: 'own key' | 'key'): ComparedCase {
  const heads = { query: 2, key: 2, value: 2 };
  const sizes = { heads, keySize: 32, valueSize: 64 };
  const shape = [3, 150] as const;
  // With the delta rule keys have length 1, which keeps the state bounded.
  const { beta, ...others } = recurrenceOperands(sizes, shape, { ...options, delta: true });
  const operands = { ...others, ...(options.delta && { beta: beta! }) };
  const names = Object.keys(operands);
  const { find: own, remove: other } = eraseOperands(sizes, shape);
  const erased = erases ? (erases === 'key' ? [own] : [own, other]) : [];
  return {
    name: `kernels: ${name}`,
    operands: [...Object.values(operands), ...erased],
    build(...given) {
      const named = Object.fromEntries(
        names.map((key, i) => [key, given[i]!]),
      ) as unknown as RecurrenceInputs;
      const [find, remove] = given.slice(names.length) as [Tensor?, Tensor?];
      const erase = find && { find, remove: erases === 'key' ? named.key : remove! };
      const { output, state } = linearRecurrence({ ...named, ...(erase && { erase }) }, heads);
      return [output, state];
    },
  };
}

function scanned(size: number): ComparedCase {
  const operands = scanOperands({ width: 128, size }, 3, 37);
  return {
    name: `kernels: states of ${size} numbers`,
    operands: SCAN_OPERANDS.map((name) => operands[name]),
    build(...given) {
      const named = Object.fromEntries(SCAN_OPERANDS.map((name, i) => [name, given[i]!]));
      const { output, state } = selectiveScan(named as never);
      return [output, state];
    },
  };
}

export const largeCases: Readonly<Record<string, readonly ComparedCase[]>> = {
  attention: [
    fused('causal, heads that share keys', 128, {}),
    fused('in both directions', 64, { causal: false }),
    fused('behind a past, of which one row holds nothing', 64, {}, 128),
  ],
  linearRecurrence: [
    chunked('a decay for each head', 300, { gating: 'head', withState: true }),
    chunked('the delta rule', 130, { gating: 'head', withState: true, delta: true }),
    inKernels('a decay for each head', { gating: 'head', withState: true }),
    inKernels('the delta rule, a decay for each head', { gating: 'head', withState: true, delta: true }),
    inKernels('the delta rule, a decay for each key', { gating: 'row', withState: true, delta: true }),
    inKernels('an erase under keys of its own', { gating: 'row', withState: true }, 'own key'),
    inKernels('an erase under the key', { gating: 'row', withState: true }, 'key'),
  ],
  selectiveScan: [scanned(16), scanned(64)],
};
