/**
 * Prints kernels in the dialect of Triton (Tillet et al., 2019), which XLA for NVIDIA GPUs compiles where a custom call
 * `__gpu$xla.gpu.triton` hands them over, as JAX's Pallas does. A kernel is a function of pointers, of which one program runs for each point
 * of a grid; tensors inside of it lie in the registers of the program's threads.
 */
import { typeText } from '../value.js';

/** What a number in a kernel is. */
type KernelElement = KernelFloat | 'i32' | 'i64' | 'i1';

/** Floating-point numbers; those of 16 bits are multiplied on tensor cores. */
export type KernelFloat = 'f32' | 'bf16' | 'f16';

/** A value in a kernel: a scalar where it has no dims. */
export interface KernelValue {
  readonly id: string;
  readonly element: KernelElement;
  readonly dims: readonly number[];
}

/** Where an array begins in memory, or a place in it. */
export interface KernelPointer {
  readonly id: string;
  readonly element: 'f32' | 'bf16' | 'i32';
}

/** Writes the instructions of one kernel. Operands of different dims are broadcast to each other; scalars have none. */
export class KernelBuilder {
  private lines: string[] = [];
  private next = 0;
  private readonly parameters: string[] = [];

  /** An array that the kernel reads or writes. Arguments stand in the order of the custom call's operands, then its results. */
  array(element: KernelPointer['element']): KernelPointer {
    const id = `%a${this.parameters.length}`;
    this.parameters.push(`${id}: !tt.ptr<${element}> {tt.divisibility = 16 : i32}`);
    return { id, element };
  }

  /** The text of the module. */
  text(name: string): string {
    return [
      'module {',
      `tt.func public @${name}(${this.parameters.join(', ')}) {`,
      ...this.lines,
      'tt.return',
      '}',
      '}',
      '',
    ].join('\n');
  }

  /** This program's place along an axis of the grid. */
  program(axis: 'x' | 'y' | 'z'): KernelValue {
    return this.emit(`tt.get_program_id ${axis} : i32`, 'i32', []);
  }

  /** A scalar. */
  integer(value: number, element: 'i32' | 'i64' = 'i32'): KernelValue {
    return this.emit(`arith.constant ${value} : ${element}`, element, []);
  }

  /** A tensor of one number. */
  fill(value: number, dims: readonly number[], element: KernelFloat = 'f32'): KernelValue {
    const literal = Number.isInteger(value) ? value.toFixed(1) : value.toExponential(9);
    return this.emit(`arith.constant dense<${literal}> : ${typeText(element, dims)}`, element, dims);
  }

  /** The index along one axis of a tensor that has size 1 along the others. */
  range(dims: readonly number[], axis: number): KernelValue {
    const size = dims[axis]!;
    let x = this.emit(`tt.make_range {end = ${size} : i32, start = 0 : i32} : tensor<${size}xi32>`, 'i32', [
      size,
    ]);
    for (let i = 0; i < dims.length; i++) if (i !== axis) x = this.expand(x, i);
    return x;
  }

  /** x with an axis of size 1 more. */
  expand(x: KernelValue, axis: number): KernelValue {
    const dims = [...x.dims.slice(0, axis), 1, ...x.dims.slice(axis)];
    return this.emit(
      `tt.expand_dims ${x.id} {axis = ${axis} : i32} : ${type(x)} -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
    );
  }

  /** Two operands in their common dims. */
  private alike(a: KernelValue, b: KernelValue): [KernelValue, KernelValue] {
    const dims = commonDims(a.dims, b.dims);
    return [this.broadcast(a, dims), this.broadcast(b, dims)];
  }

  private binary(name: 'add' | 'mul' | 'sub', a: KernelValue, b: KernelValue): KernelValue {
    const [x, y] = this.alike(a, b);
    const suffix = x.element.includes('f') ? 'f' : 'i';
    return this.emit(`arith.${name}${suffix} ${x.id}, ${y.id} : ${type(x)}`, x.element, x.dims);
  }

  /** An operation by its full name. */
  private named(
    name: 'andi' | 'ori' | 'xori' | 'shli' | 'minsi' | 'minnumf' | 'divsi',
    a: KernelValue,
    b: KernelValue,
  ): KernelValue {
    const [x, y] = this.alike(a, b);
    return this.emit(`arith.${name} ${x.id}, ${y.id} : ${type(x)}`, x.element, x.dims);
  }

  add(a: KernelValue, b: KernelValue): KernelValue {
    return this.binary('add', a, b);
  }

  multiply(a: KernelValue, b: KernelValue): KernelValue {
    return this.binary('mul', a, b);
  }

  subtract(a: KernelValue, b: KernelValue): KernelValue {
    return this.binary('sub', a, b);
  }

  /** A scalar i32 as i64. */
  long(x: KernelValue): KernelValue {
    return this.emit(`arith.extsi ${x.id} : i32 to i64`, 'i64', []);
  }

  /** 2^x */
  exp2(x: KernelValue): KernelValue {
    return this.emit(`math.exp2 ${x.id} : ${type(x)}`, x.element, x.dims);
  }

  /** The sum over an axis, which stays as one of size 1, in its place or in another. */
  sum(x: KernelValue, axis: number, place = axis): KernelValue {
    return this.expand(this.reduced('addf', x, axis), place);
  }

  /** The largest of all numbers, a scalar. */
  largest(x: KernelValue): KernelValue {
    return x.dims.reduce((all) => this.reduced('maxnumf', all, 0), x);
  }

  /** What is left of an axis, without it. */
  private reduced(name: 'addf' | 'maxnumf', x: KernelValue, axis: number): KernelValue {
    const dims = x.dims.filter((_, i) => i !== axis);
    const made = dims.length === 0 ? 'f32' : typeText('f32', dims);
    return this.emit(
      `"tt.reduce"(${x.id}) <{axis = ${axis} : i32}> ({\n^bb0(%l: f32, %r: f32):\n%s = arith.${name} %l, %r : f32\ntt.reduce.return %s : f32\n}) : (${type(x)}) -> ${made}`,
      'f32',
      dims,
    );
  }

  /** The place so many numbers (a scalar i64) behind another. */
  at(pointer: KernelPointer, offset: KernelValue): KernelPointer {
    const id = this.name();
    this.lines.push(`${id} = tt.addptr ${pointer.id}, ${offset.id} : !tt.ptr<${pointer.element}>, i64`);
    return { id, element: pointer.element };
  }

  /** The one number at a place. */
  loadOne(pointer: KernelPointer): KernelValue {
    return this.emit(`tt.load ${pointer.id} : !tt.ptr<${pointer.element}>`, pointer.element, []);
  }

  /** Writes one number. */
  storeOne(pointer: KernelPointer, x: KernelValue): void {
    this.lines.push(`tt.store ${pointer.id}, ${x.id} : !tt.ptr<${pointer.element}>`);
  }

  /** The numbers behind a place at such distances, in the pointer's type; 0 where `mask` does not hold. */
  load(pointer: KernelPointer, distances: KernelValue, mask?: KernelValue): KernelValue {
    const { dims } = distances;
    const places = this.places(pointer, distances);
    const masked = mask
      ? `, ${this.broadcast(mask, dims).id}, ${this.fill(0, dims, pointer.element as KernelFloat).id}`
      : '';
    return this.emit(
      `tt.load ${places}${masked} : ${pointerType(pointer.element, dims)}`,
      pointer.element,
      dims,
    );
  }

  /** x as float32. */
  wide(x: KernelValue): KernelValue {
    if (x.element === 'f32') return x;
    return this.emit(`arith.extf ${x.id} : ${type(x)} to ${typeText('f32', x.dims)}`, 'f32', x.dims);
  }

  /** x in the given type. */
  narrow(x: KernelValue, element: KernelFloat): KernelValue {
    if (element === 'f32') return this.wide(x);
    if (x.element === element) return x;
    const wide = this.wide(x);
    return this.emit(
      `arith.truncf ${wide.id} : ${type(wide)} to ${typeText(element, x.dims)}`,
      element,
      x.dims,
    );
  }

  /** The smaller ones of two numbers. */
  minimum(a: KernelValue, b: KernelValue): KernelValue {
    return this.named(a.element === 'i32' ? 'minsi' : 'minnumf', a, b);
  }

  /** Integers divided by others, rounded towards 0. */
  divide(a: KernelValue, b: KernelValue): KernelValue {
    return this.named('divsi', a, b);
  }

  /** The bits that two integers, or two conditions, have in common. */
  both(a: KernelValue, b: KernelValue): KernelValue {
    return this.named('andi', a, b);
  }

  /** The bits that one of two integers has. */
  either(a: KernelValue, b: KernelValue): KernelValue {
    return this.named('ori', a, b);
  }

  /** An integer times a power of two. */
  shifted(x: KernelValue, by: KernelValue): KernelValue {
    return this.named('shli', x, by);
  }

  /** The bits in which two integers differ. */
  difference(a: KernelValue, b: KernelValue): KernelValue {
    return this.named('xori', a, b);
  }

  /** Whether integers are less than, equal to, or greater than others. */
  compare(how: 'slt' | 'eq' | 'sgt', a: KernelValue, b: KernelValue): KernelValue {
    const [x, y] = this.alike(a, b);
    return this.emit(`arith.cmpi ${how}, ${x.id}, ${y.id} : ${type(x)}`, 'i1', x.dims);
  }

  /** x where a condition holds, else another value: 0 by default. */
  where(condition: KernelValue, x: KernelValue, other?: KernelValue): KernelValue {
    const dims = commonDims(commonDims(condition.dims, x.dims), other?.dims ?? []);
    const [holds, yes] = [condition, x].map((operand) => this.broadcast(operand, dims)) as [
      KernelValue,
      KernelValue,
    ];
    const no = other ? this.broadcast(other, dims) : this.fill(0, dims);
    return this.emit(
      `arith.select ${holds.id}, ${yes.id}, ${no.id} : ${type(holds)}, ${type(yes)}`,
      x.element,
      dims,
    );
  }

  /** -x, as Triton's own language has it: its compiler does not take every instruction for it. */
  negative(x: KernelValue): KernelValue {
    return this.subtract(this.fill(0, x.dims), x);
  }

  /** |x| */
  absolute(x: KernelValue): KernelValue {
    return this.emit(`math.absf ${x.id} : ${type(x)}`, x.element, x.dims);
  }

  /** A matrix whose rows are the columns of x. */
  transposed(x: KernelValue): KernelValue {
    const dims = [...x.dims].reverse();
    return this.emit(
      `tt.trans ${x.id} {order = array<i32: 1, 0>} : ${type(x)} -> ${typeText(x.element, dims)}`,
      x.element,
      dims,
    );
  }

  /**
   * The product of two matrices [rows, inner] and [inner, columns] of one type, plus `added` where there is one, in float32. Each size is at
   * least 16. Tensor cores multiply numbers of float32 in parts, so that hardly a bit is lost.
   */
  dot(a: KernelValue, b: KernelValue, added?: KernelValue): KernelValue {
    const dims = [a.dims[0]!, b.dims[1]!];
    const sum = added ?? this.fill(0, dims);
    return this.emit(
      `tt.dot ${a.id}, ${b.id}, ${sum.id}, inputPrecision = tf32x3 : ${type(a)} * ${type(b)} -> ${type(sum)}`,
      'f32',
      dims,
    );
  }

  /** The sum of the numbers along an axis up to each, or from each on. */
  cumulative(x: KernelValue, axis: number, reverse: boolean): KernelValue {
    return this.emit(
      `"tt.scan"(${x.id}) <{axis = ${axis} : i32, reverse = ${reverse}}> ({\n^bb0(%l: f32, %r: f32):\n%s = arith.addf %l, %r : f32\ntt.scan.return %s : f32\n}) : (${type(x)}) -> ${type(x)}`,
      'f32',
      x.dims,
    );
  }

  /** Writes numbers in the pointer's type, where `mask` holds. */
  store(pointer: KernelPointer, distances: KernelValue, x: KernelValue, mask?: KernelValue): void {
    const places = this.places(pointer, distances);
    const value = this.narrow(x, pointer.element as KernelFloat);
    const masked = mask ? `, ${this.broadcast(mask, distances.dims).id}` : '';
    this.lines.push(
      `tt.store ${places}, ${value.id}${masked} : ${pointerType(pointer.element, distances.dims)}`,
    );
  }

  /** What the compiler is told of places in memory, as attributes. */
  protected hint(_dims: readonly number[]): string {
    return '';
  }

  private places(pointer: KernelPointer, distances: KernelValue): string {
    const [all, id] = [this.name(), this.name()];
    const pointers = pointerType(pointer.element, distances.dims);
    this.lines.push(`${all} = tt.splat ${pointer.id} : !tt.ptr<${pointer.element}> -> ${pointers}`);
    const hint = this.hint(distances.dims);
    this.lines.push(`${id} = tt.addptr ${all}, ${distances.id}${hint} : ${pointers}, ${type(distances)}`);
    return id;
  }

  /** Runs `body` for an index from one number on, up to another; returns what is carried at the end. */
  loop(
    from: KernelValue,
    end: number,
    initial: readonly KernelValue[],
    body: (index: KernelValue, carried: readonly KernelValue[]) => readonly KernelValue[],
  ): KernelValue[] {
    const [to, step] = [this.integer(end), this.integer(1)];
    const index: KernelValue = { id: this.name(), element: 'i32', dims: [] };
    const carried = initial.map((value) => ({ ...value, id: this.name() }));
    const around = this.lines;
    this.lines = [];
    const results = body(index, carried);
    const inside = this.lines;
    this.lines = around;
    const types = initial.map(type).join(', ');
    const made = this.name();
    const given = carried.map(({ id }, i) => `${id} = ${initial[i]!.id}`).join(', ');
    this.lines.push(
      `${made}:${initial.length} = scf.for ${index.id} = ${from.id} to ${to.id} step ${step.id} iter_args(${given}) -> (${types}) : i32 {`,
      ...inside,
      `scf.yield ${results.map(({ id }) => id).join(', ')} : ${types}`,
      '}',
    );
    return initial.map((value, i) => ({ ...value, id: `${made}#${i}` }));
  }

  /** x repeated along axes of size 1; a scalar everywhere. */
  broadcast(x: KernelValue, dims: readonly number[]): KernelValue {
    if (x.dims.length === dims.length && x.dims.every((size, i) => size === dims[i])) return x;
    const how = x.dims.length === 0 ? 'splat' : 'broadcast';
    return this.emit(`tt.${how} ${x.id} : ${type(x)} -> ${typeText(x.element, dims)}`, x.element, dims);
  }

  private emit(text: string, element: KernelElement, dims: readonly number[]): KernelValue {
    const id = this.name();
    this.lines.push(`${id} = ${text}`);
    return { id, element, dims };
  }

  private name(): string {
    return `%v${this.next++}`;
  }
}

function type({ element, dims }: KernelValue): string {
  return dims.length === 0 ? element : typeText(element, dims);
}

function pointerType(element: string, dims: readonly number[]): string {
  return `tensor<${dims.map((dim) => `${dim}x`).join('')}!tt.ptr<${element}>>`;
}

function commonDims(a: readonly number[], b: readonly number[]): readonly number[] {
  if (a.length === 0 || b.length === 0) return a.length === 0 ? b : a;
  return a.map((size, i) => Math.max(size, b[i]!));
}
