/** Keys of results for common subexpression elimination. */
import type { Dim } from '../../shape.js';
import type { Node } from '../../tensor.js';
import type { WasmBuilder } from './builder.js';
import { idOf, type Value } from './value.js';

/**
 * A key that is equal for nodes with equal results, or undefined if it would be too long. If all operands are named constants, it is valid
 * across programs.
 */
export function resultKey(
  builder: WasmBuilder,
  node: Node,
  operands: readonly (Value | undefined)[],
): string | undefined {
  if (node.outputs.some((output) => builder.successors.has(output))) return undefined;
  const attributes = attributesKey(builder, node.attributes);
  if (attributes === undefined) return undefined;
  const dims = node.outputs.map(({ shape }) => `[${builder.dims(shape)}]`).join('');
  return `${node.operator.name}(${operands.map((x) => (x ? valueKey(x) : '-')).join(', ')})${attributes}${dims}`;
}

function valueKey(value: Value): string {
  if (value.kind === 'packed') return value.codes.key!;
  if (value.kind === 'state') return `state ${value.index}`;
  if (value.kind === 'coded') return `coded ${value.codes.index}`;
  const { buffer, dims, strides, offset } = value;
  return `${buffer.key ?? `#${idOf(buffer)}`}+${offset}[${dims}][${strides}]`;
}

/** The largest constant that is compared by content, in elements. */
const MOST_COMPARED = 256;

function attributesKey(builder: WasmBuilder, attributes: unknown): string | undefined {
  let isShort = true;
  const text = JSON.stringify(attributes, (name, value: unknown) => {
    if (ArrayBuffer.isView(value)) {
      const list = value as Float32Array;
      if (list.length > MOST_COMPARED) isShort = false;
      return isShort ? Array.from(list, (x) => (Object.is(x, -0) ? '-0' : String(x))) : undefined;
    }
    if (name === 'body' || name === 'branches') {
      isShort = false;
      return undefined;
    }
    // Dimensions are compared by value, since a name may mean another size elsewhere.
    if (DIMENSIONS.has(name)) {
      return Array.isArray(value) ? builder.dims(value as Dim[]) : builder.resolve(value as Dim);
    }
    const isPlain = typeof value !== 'number' || (Number.isFinite(value) && !Object.is(value, -0));
    return typeof value === 'bigint' || !isPlain ? (Object.is(value, -0) ? '-0' : String(value)) : value;
  });
  return isShort ? (text ?? '') : undefined;
}

/** Attributes that are dimensions or shapes. */
const DIMENSIONS = new Set(['shape', 'size', 'dim', 'start', 'end', 'sizes', 'k']);
