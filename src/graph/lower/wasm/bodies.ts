/** Subgraphs of a node. All sizes are known, so loops are unrolled. */
import { DeviceError } from '../../../errors.js';
import type { Body } from '../../ops/body.js';
import type { Dim, Shape } from '../../shape.js';
import type { Node, Tensor } from '../../tensor.js';
import type { WasmBuilder } from './builder.js';
import { lowerAll, valuesAround } from './lower.js';
import { concatInWasm, reshapedOrCopied } from './operators.js';
import type { Value } from './value.js';

/** Unrolls a loop. */
export function loopInWasm(
  builder: WasmBuilder,
  operands: readonly (Value | undefined)[],
  { outputs }: Node<unknown>,
  { count, body, final }: { count: Dim; body: Body; final: readonly Shape[] },
): Value[] {
  const steps = builder.resolve(count);
  const around = valuesAround(builder);
  let carried = operands.slice(0, final.length) as Value[];
  const stacked: Value[][] = body.results.slice(final.length, -1).map(() => []);
  const { key, path } = builder;
  for (let i = 0; i < steps; i++) {
    const values = new Map(around);
    const [iteration, ...placeholders] = body.inputs;
    values.set(iteration!, builder.constant(BigInt64Array.of(BigInt(i)), [], 'int64', `iteration ${i}`));
    for (const [j, tensor] of placeholders.entries()) values.set(tensor, carried[j]!);
    bindSizes(builder, placeholders, carried);
    lowerAll(builder, body.nodes, body.results, values);
    const results = body.results.map((tensor) => values.get(tensor)!);
    if (!isTrue(results.at(-1)!)) {
      throw new DeviceError(
        'the wasm device has no loops that end early: their ends are not known beforehand',
      );
    }
    carried = results.slice(0, final.length);
    for (const [j, value] of results.slice(final.length, -1).entries()) stacked[j]!.push(value);
  }
  builder.begin(path, key);
  const all = stacked.map((values, j) => {
    const output = outputs[final.length + j]!;
    if (steps === 0) return builder.allocate([0, ...builder.dims(output.shape.slice(1))], output.dtype, []);
    const rows = values.map((value) => reshapedOrCopied(builder, value, [1, ...value.dims]));
    return steps === 1 ? rows[0]! : concatInWasm(builder, rows, 0);
  });
  const results = [...carried, ...all];
  bindSizes(builder, outputs, results);
  return results;
}

function isTrue(value: Value): boolean {
  if (value.kind !== 'view' || value.buffer.source?.kind !== 'constant') return false;
  return Boolean(value.buffer.source.data[value.offset]);
}

/** Binds symbolic dimensions to the sizes of these values. */
function bindSizes(builder: WasmBuilder, tensors: readonly Tensor[], values: readonly Value[]): void {
  for (const [i, { shape }] of tensors.entries()) {
    for (const [axis, dim] of shape.entries()) {
      if (typeof dim !== 'string' || !/^\w+$/.test(dim) || builder.knows(dim)) continue;
      builder.bind(dim, values[i]!.dims[axis]!);
    }
  }
}
