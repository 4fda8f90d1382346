/**
 * Prints StableHLO instructions, one a line, in JAX's syntax (or MLIR's generic syntax, where that is older). For their meaning see
 * https://openxla.org/stablehlo/spec. Only instructions that are unchanged since StableHLO 1.0 are used, since plugins of various versions
 * parse the text.
 */
import { DeviceError } from '../../../errors.js';
import type { DType, TensorData } from '../../dtype.js';
import { literalText, lowest, nested, numbersOf } from './literals.js';
import { HloText, typeOf } from './text.js';
import { type Element, elementOf, isFloat, type Plain, replaced, typeText } from './value.js';

/** The directions of `stablehlo.compare`. */
export type Comparison = 'EQ' | 'NE' | 'LT' | 'LE' | 'GT' | 'GE';

/** The batch axes and contracted axes of `dot`. The result has the batch axes, then a's other axes, then b's. */
export interface DotAxes {
  readonly batch: readonly (readonly [a: number, b: number])[];
  readonly contract: readonly (readonly [a: number, b: number])[];
}

/** The instructions of a StableHLO function: each method adds a line and returns its result. */
export class HloInstructions extends HloText {
  /** A conversion to another element type. */
  as(value: Plain, element: Element): Plain {
    if (value.element === element) return value;
    if (value.literal !== undefined) return this.splat(value.literal, element, value.dims);
    return this.emit(
      `stablehlo.convert ${value.id} : (${typeOf(value)}) -> ${typeText(element, value.dims)}`,
      element,
      value.dims,
      value.isWeak,
    );
  }

  // Constants.

  splat(literal: number, element: Element, dims: readonly number[] = []): Plain {
    const value = this.emit(
      `stablehlo.constant dense<${literalText(literal, element)}> : ${typeText(element, dims)}`,
      element,
      dims,
      true,
    );
    return { ...value, literal };
  }

  zeros(dtype: DType, dims: readonly number[]): Plain {
    return this.splat(0, elementOf(dtype), dims);
  }

  constant(data: TensorData, element: Element, dims: readonly number[]): Plain {
    const numbers = numbersOf(data, element);
    const [first] = numbers;
    if (numbers.length > 0 && numbers.every((value) => Object.is(value, first)))
      return this.splat(first!, element, dims);
    const text = nested(
      numbers.map((value) => literalText(value, element)),
      dims,
    );
    return this.emit(`stablehlo.constant dense<${text}> : ${typeText(element, dims)}`, element, dims, true);
  }

  /** The index along an axis. */
  iota(dims: readonly number[], axis: number, element: Element): Plain {
    return this.emit(`stablehlo.iota dim = ${axis} : ${typeText(element, dims)}`, element, dims);
  }

  // Element by element.

  /** A unary instruction, with a result of the operand's type. */
  unary(name: string, x: Plain): Plain {
    return this.emit(`stablehlo.${name} ${x.id} : ${typeOf(x)}`, x.element, x.dims, x.isWeak);
  }

  /** A binary instruction on operands of one element type, with broadcasting. */
  binary(name: string, a: Plain, b: Plain): Plain {
    const [x, y] = this.broadcastTogether([a, b]) as [Plain, Plain];
    return this.emit(
      `stablehlo.${name} ${x.id}, ${y.id} : ${typeOf(x)}`,
      x.element,
      x.dims,
      x.isWeak && y.isWeak,
    );
  }

  compare(how: Comparison, a: Plain, b: Plain): Plain {
    const [x, y] = this.broadcastTogether([a, b]) as [Plain, Plain];
    const kind = isFloat(x.element)
      ? 'FLOAT'
      : x.element === 'i1' || x.element === 'ui8'
        ? 'UNSIGNED'
        : 'SIGNED';
    return this.emit(
      `stablehlo.compare ${how}, ${x.id}, ${y.id}, ${kind} : (${typeOf(x)}, ${typeOf(y)}) -> ${typeText('i1', x.dims)}`,
      'i1',
      x.dims,
    );
  }

  select(condition: Plain, a: Plain, b: Plain): Plain {
    const [p, x, y] = this.broadcastTogether([condition, a, b]) as [Plain, Plain, Plain];
    return this.emit(
      `stablehlo.select ${p.id}, ${x.id}, ${y.id} : ${typeOf(p)}, ${typeOf(x)}`,
      x.element,
      x.dims,
      x.isWeak && y.isWeak,
    );
  }

  private broadcastTogether(values: readonly Plain[]): Plain[] {
    const rank = Math.max(...values.map(({ dims }) => dims.length));
    const dims = Array.from({ length: rank }, (_, axis) => {
      const sizes = values.map((value) => value.dims[value.dims.length - rank + axis] ?? 1);
      return sizes.find((size) => size !== 1) ?? 1;
    });
    return values.map((value) => this.broadcast(value, dims));
  }

  // Layout.

  /** Broadcasts axes of size 1 and missing leading axes. */
  broadcast(x: Plain, dims: readonly number[]): Plain {
    const lead = dims.length - x.dims.length;
    return this.broadcastInDim(
      x,
      x.dims.map((_, axis) => lead + axis),
      dims,
    );
  }

  /** Axis i of the operand becomes axis axes[i] of the result. */
  broadcastInDim(x: Plain, axes: readonly number[], dims: readonly number[]): Plain {
    if (x.dims.length === dims.length && x.dims.every((size, i) => size === dims[i])) return x;
    if (x.literal !== undefined) return this.splat(x.literal, x.element, dims);
    return this.emit(
      `stablehlo.broadcast_in_dim ${x.id}, dims = [${axes.join(', ')}] : (${typeOf(x)}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
      x.isWeak,
    );
  }

  reshape(x: Plain, dims: readonly number[]): Plain {
    if (x.dims.length === dims.length && x.dims.every((size, i) => size === dims[i])) return x;
    if (x.literal !== undefined) return this.splat(x.literal, x.element, dims);
    return this.emit(
      `stablehlo.reshape ${x.id} : (${typeOf(x)}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
      x.isWeak,
    );
  }

  transpose(x: Plain, order: readonly number[]): Plain {
    if (order.every((axis, i) => axis === i)) return x;
    const dims = order.map((axis) => x.dims[axis]!);
    return this.emit(
      `stablehlo.transpose ${x.id}, dims = [${order.join(', ')}] : (${typeOf(x)}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
      x.isWeak,
    );
  }

  slice(x: Plain, axis: number, start: number, end: number): Plain {
    if (start === 0 && end === x.dims[axis]) return x;
    const dims = replaced(x.dims, axis, end - start);
    const ranges = x.dims.map((size, i) => (i === axis ? `${start}:${end}` : `0:${size}`));
    return this.emit(
      `stablehlo.slice ${x.id} [${ranges.join(', ')}] : (${typeOf(x)}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
      x.isWeak,
    );
  }

  /** Concatenates operands of one element type. */
  concat(parts: readonly Plain[], axis: number): Plain {
    if (parts.length === 1) return parts[0]!;
    const [first] = parts as [Plain];
    const dims = replaced(
      first.dims,
      axis,
      parts.reduce((sum, part) => sum + part.dims[axis]!, 0),
    );
    const types = parts.map(typeOf).join(', ');
    return this.emit(
      `stablehlo.concatenate ${parts.map(({ id }) => id).join(', ')}, dim = ${axis} : (${types}) -> ${typeText(first.element, dims)}`,
      first.element,
      dims,
      parts.every(({ isWeak }) => isWeak),
    );
  }

  /** Adds `before` and `after` zeros along an axis. */
  pad(x: Plain, axis: number, before: number, after: number): Plain {
    const dims = replaced(x.dims, axis, before + x.dims[axis]! + after);
    const filler = this.splat(0, x.element);
    const amounts = (size: number): string => x.dims.map((_, i) => (i === axis ? size : 0)).join(', ');
    return this.emit(
      `stablehlo.pad ${x.id}, ${filler.id}, low = [${amounts(before)}], high = [${amounts(after)}], interior = [${amounts(0)}] : (${typeOf(x)}, ${typeOf(filler)}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
      x.isWeak,
    );
  }

  reverse(x: Plain, axis: number): Plain {
    return this.emit(
      `stablehlo.reverse ${x.id}, dims = [${axis}] : ${typeOf(x)}`,
      x.element,
      x.dims,
      x.isWeak,
    );
  }

  /** `size` elements along an axis from a dynamic start, which is clamped so that they fit. */
  dynamicSlice(x: Plain, axis: number, start: Plain, size: number): Plain {
    const starts = this.startsOf(x, axis, start);
    const dims = replaced(x.dims, axis, size);
    return this.emit(
      `stablehlo.dynamic_slice ${x.id}, ${starts.map(({ id }) => id).join(', ')}, sizes = [${dims.join(', ')}] : (${[x, ...starts].map(typeOf).join(', ')}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
      x.isWeak,
    );
  }

  /** x with `part` written along an axis from a dynamic start. */
  dynamicUpdateSlice(x: Plain, part: Plain, axis: number, start: Plain): Plain {
    return this.updateAt(x, part, this.startsOf(x, axis, start));
  }

  updateAt(x: Plain, part: Plain, starts: readonly Plain[]): Plain {
    return this.emit(
      `stablehlo.dynamic_update_slice ${[x, part, ...starts].map(({ id }) => id).join(', ')} : (${[x, part, ...starts].map(typeOf).join(', ')}) -> ${typeOf(x)}`,
      x.element,
      x.dims,
    );
  }

  private startsOf(x: Plain, axis: number, start: Plain): Plain[] {
    const zero = this.splat(0, start.element);
    return x.dims.map((_, i) => (i === axis ? start : zero));
  }

  // Sums and products.

  /** A reduction along axes, which are removed. */
  reduce(what: 'add' | 'maximum' | 'and', x: Plain, axes: readonly number[]): Plain {
    if (axes.length === 0) return x;
    const start = what === 'add' ? 0 : what === 'and' ? 1 : lowest(x.element);
    const initial = this.splat(start, x.element);
    const dims = x.dims.filter((_, axis) => !axes.includes(axis));
    return this.emit(
      `stablehlo.reduce(${x.id} init: ${initial.id}) applies stablehlo.${what} across dimensions = [${[...axes].sort((a, b) => a - b).join(', ')}] : (${typeOf(x)}, ${typeOf(initial)}) -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
    );
  }

  /** A product of operands of one type, accumulated in float32. float32 operands may be rounded to TensorFloat-32's 10 bits unless it `isExact`. */
  dotGeneral(a: Plain, b: Plain, axes: DotAxes, element: Element, isExact: boolean): Plain {
    const side = (which: 0 | 1, pairs: DotAxes['batch']): string =>
      `[${pairs.map((pair) => pair[which]).join(', ')}]`;
    const free = (x: Plain, which: 0 | 1): number[] =>
      x.dims.filter((_, axis) => ![...axes.batch, ...axes.contract].some((pair) => pair[which] === axis));
    const dims = [...axes.batch.map(([axis]) => a.dims[axis]!), ...free(a, 0), ...free(b, 1)];
    const pairs = (name: string, list: DotAxes['batch']): string =>
      `${name} = ${side(0, list)} x ${side(1, list)}`;
    const batching = axes.batch.length === 0 ? '' : `${pairs('batching_dims', axes.batch)}, `;
    const precision = a.element === 'f32' && isExact ? 'HIGHEST' : 'DEFAULT';
    return this.emit(
      `stablehlo.dot_general ${a.id}, ${b.id}, ${batching}${pairs('contracting_dims', axes.contract)}, precision = [${precision}, ${precision}] : (${typeOf(a)}, ${typeOf(b)}) -> ${typeText(element, dims)}`,
      element,
      dims,
    );
  }

  /** A loop of `trips` iterations with carried values. Returns their final values. */
  loop(
    trips: number,
    initial: readonly Plain[],
    body: (index: Plain, carried: readonly Plain[]) => readonly Plain[],
  ): Plain[] {
    const index = this.argument('i32', []);
    // A weak parameter stays weak in a loop; a literal, such as the start of a sum, does not stay a literal.
    const carried = initial.map(({ element, dims, isWeak, literal }) =>
      this.argument(element, dims, isWeak && literal === undefined),
    );
    const all = [index, ...carried];
    const condition = this.region(() => [this.compare('LT', index, this.splat(trips, 'i32'))]);
    const step = this.region(() => {
      const results = body(index, carried);
      for (const [i, result] of results.entries()) {
        if (typeOf(result) !== typeOf(carried[i]!))
          throw new DeviceError(
            `a loop carries ${typeOf(carried[i]!)}, but its body makes ${typeOf(result)}`,
          );
      }
      return [this.binary('add', index, this.splat(1, 'i32')), ...results];
    });
    const starts = [this.splat(0, 'i32'), ...initial];
    const header = all.map(({ id }, i) => `${id} = ${starts[i]!.id}`).join(', ');
    const results = this.emitAll(
      `stablehlo.while(${header}) : ${all.map(typeOf).join(', ')}\ncond {\n${condition}} do {\n${step}}`,
      all,
    );
    return results.slice(1);
  }
}
