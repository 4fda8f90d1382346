/** Calls of what a plugin has beside its instructions: kernels of libraries, and kernels that it is handed. */
import type { StableHloBuilder } from './builder.js';
import { typeOf } from './text.js';
import { type Element, type Plain, typeText } from './value.js';

/** A call's result: its type, and its axes from the one whose elements are next to each other on; the last one first by default. */
export interface CallResult {
  readonly element: Element;
  readonly dims: readonly number[];
  readonly layout?: readonly number[];
}

/** Calls `target` with operands in row-major order; `attributes` are those of this kind of call, as text. */
export function customCall(
  builder: StableHloBuilder,
  target: string,
  attributes: string,
  operands: readonly Plain[],
  results: readonly CallResult[],
): Plain[] {
  const rowMajor = (dims: readonly number[]): number[] => dims.map((_, i) => dims.length - 1 - i);
  const layouts = (all: readonly (readonly number[])[]): string =>
    all
      .map(
        (order) =>
          `dense<${order.length === 1 ? order[0] : `[${order.join(', ')}]`}> : tensor<${order.length}xindex>`,
      )
      .join(', ');
  const ids = operands.map(({ id }) => id).join(', ');
  const operandLayouts = layouts(operands.map(({ dims }) => rowMajor(dims)));
  const resultLayouts = layouts(results.map(({ dims, layout }) => layout ?? rowMajor(dims)));
  const types = results.map(({ element, dims }) => typeText(element, dims)).join(', ');
  return builder.emitAll(
    `stablehlo.custom_call @${target}(${ids}) {${attributes}, operand_layouts = [${operandLayouts}], result_layouts = [${resultLayouts}]} : (${operands.map(typeOf).join(', ')}) -> (${types})`,
    results,
  );
}
