/** Calls of what a plugin has beside its instructions: kernels of libraries, and kernels that it is handed. */
import type { StableHloBuilder } from './builder.js';
import { shardingText, typeOf } from './text.js';
import { type Element, type Plain, replaced } from './value.js';

/** A call's result: its type, and its axes from the one whose elements are next to each other on; the last one first by default. */
export interface CallResult {
  readonly element: Element;
  readonly dims: readonly number[];
  readonly layout?: readonly number[];
  /** Whether it is memory that the call needs, and not of the batch. */
  readonly isScratch?: boolean;
}

/** What is called, and with what. */
export interface CustomCall {
  readonly target: string;
  /** The attributes of this kind of call, as text: for the sequences of one device. */
  readonly attributes: string;
  /** In row-major order. The first axis is the batch, as it is in the results, but not in those that are `shared` by all sequences. */
  readonly operands: readonly Plain[];
  readonly shared?: readonly Plain[];
  readonly results: readonly CallResult[];
}

/**
 * A custom call. XLA cannot partition one, so over several devices each makes it on its own sequences of the batch: the call stands in
 * a `sdy.manual_computation` of the Shardy dialect, whose values have the shapes that they have on one device.
 */
export function customCall(builder: StableHloBuilder, call: CustomCall): Plain[] {
  const { operands, shared = [], results } = call;
  const { devices } = builder;
  if (devices === 1) return builder.emitAll(instruction(call, operands, results), results);
  const axes = operands.map((x) => (shared.includes(x) ? undefined : 0));
  const resultAxes = results.map(({ isScratch }) => (isScratch === true ? undefined : 0));
  const own = operands.map((x, i) => ({ ...ownShare(x, axes[i], devices), id: `%own${i}` }));
  const made = results.map((result, i) => ownShare(result, resultAxes[i], devices));
  const shardings = (all: readonly Pick<Plain, 'dims'>[], along: readonly (number | undefined)[]): string =>
    all.map(({ dims }, i) => shardingText(dims, along[i])).join(', ');
  const parameters = own.map((x) => `${x.id}: ${typeOf(x)}`).join(', ');
  const id = `%own${own.length}`;
  const returned = made.map((_, i) => `${id}#${i}`).join(', ');
  const text = [
    `sdy.manual_computation(${operands.map((x) => x.id).join(', ')}) in_shardings=[${shardings(operands, axes)}] out_shardings=[${shardings(results, resultAxes)}] manual_axes={"devices"} (${parameters}) {`,
    `${id}:${made.length} = ${instruction(call, own, made)}`,
    `sdy.return ${returned} : ${made.map(typeOf).join(', ')}`,
    `} : ${signature(operands, results)}`,
  ];
  return builder.emitAll(text.join('\n'), results);
}

/** The part of an array that a device has, which is all of it without an axis. */
function ownShare<T extends Pick<Plain, 'dims'>>(x: T, axis: number | undefined, devices: number): T {
  return axis === undefined ? x : { ...x, dims: replaced(x.dims, axis, x.dims[axis]! / devices) };
}

function instruction(
  { target, attributes }: CustomCall,
  operands: readonly Plain[],
  results: readonly CallResult[],
): string {
  const rowMajor = (dims: readonly number[]): number[] => dims.map((_, i) => dims.length - 1 - i);
  const layouts = (all: readonly (readonly number[])[]): string =>
    all
      .map(
        (order) =>
          `dense<${order.length === 1 ? order[0] : `[${order.join(', ')}]`}> : tensor<${order.length}xindex>`,
      )
      .join(', ');
  const operandLayouts = layouts(operands.map(({ dims }) => rowMajor(dims)));
  const resultLayouts = layouts(results.map(({ dims, layout }) => layout ?? rowMajor(dims)));
  return `stablehlo.custom_call @${target}(${operands.map(({ id }) => id).join(', ')}) {${attributes}, operand_layouts = [${operandLayouts}], result_layouts = [${resultLayouts}]} : ${signature(operands, results)}`;
}

type Typed = Pick<Plain, 'element' | 'dims'>;

function signature(operands: readonly Typed[], results: readonly Typed[]): string {
  return `(${operands.map(typeOf).join(', ')}) -> (${results.map(typeOf).join(', ')})`;
}
