/** Lowerings of linear time-invariant systems, token by token. */
import type { Node, Tensor } from '../../tensor.js';
import type { WasmBuilder } from './builder.js';
import { Instruction, Kernel } from './codes.js';
import { statesBefore, stateUse, tokenOperands } from './layers.js';
import { matmulInWasm, part, transposed } from './operators.js';
import type { Value, View } from './value.js';

/** A state for each channel. */
export function channelSystemInWasm(
  builder: WasmBuilder,
  [input, transition, readout, state]: readonly (Value | undefined)[],
  { outputs }: Node<unknown>,
): Value[] {
  const [output, after] = outputs as readonly [Tensor, Tensor];
  const [batch, sequence, channels] = input!.dims as [number, number, number];
  const [parts, , size] = transition!.dims as [number, number, number];
  const operands = tokenOperands(builder, [input]);
  const weights = [transition!, readout!].map((value) => builder.contiguous(value)) as [View, View];
  const before = statesBefore(builder, state);
  const reads = [...operands.reads, ...weights.map(({ buffer }) => buffer), ...before.reads];
  const to = builder.rowsTo(after, reads);
  const y = builder.allocate(builder.dims(output.shape), 'float32', reads);
  builder.step(
    Kernel.channelSystem,
    [
      batch,
      sequence,
      channels,
      size,
      parts,
      ...operands.words,
      builder.at(weights[0]),
      builder.at(weights[1]),
      before.word,
      to.word,
      builder.at(y),
    ],
    { reads, writes: [y.buffer, ...to.writes], ...stateUse(before, to) },
  );
  return [y, to.value];
}

/** One state for all channels: each token is a product with the transition matrix, unrolled. */
export function stateSystemInWasm(
  builder: WasmBuilder,
  [input, transition, state]: readonly (Value | undefined)[],
): Value[] {
  const x = builder.view(input!);
  const matrix = builder.contiguous(transposed(builder.view(transition!), [1, 0]));
  const states = builder.allocate(x.dims, 'float32', [x.buffer, matrix.buffer]);
  const rowsAt = (view: View, token: number): View => {
    const { dims, strides, ...rest } = part(view, 1, token, 1);
    return { ...rest, dims: [dims[0]!, dims[2]!], strides: [strides[0]!, strides[2]!] };
  };
  let last = state ? builder.view(state) : undefined;
  for (let token = 0; token < x.dims[1]!; token++) {
    const entering = rowsAt(x, token);
    if (last) {
      const moved = matmulInWasm(builder, last, matrix, { transposeA: false, transposeB: false });
      last = builder.map(Instruction.addF, 'float32', [moved, entering]);
    } else {
      last = entering;
    }
    builder.store(rowsAt(states, token), last, 'system');
  }
  return [states, last!];
}
