/** Runs kernels in Triton's dialect, plainly: every program of the grid one after the other, every instruction on whole tensors. */
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../../half.js';
import type { Evaluated } from './evaluate.js';
import type { Instruction, TensorType } from './parse.js';

/** The custom call that hands over a kernel. */
export const TRITON = '__gpu$xla.gpu.triton';

/** A value in a kernel: numbers, or places in the array with this number. */
interface Held {
  readonly type: string;
  readonly data: Float64Array;
  readonly array?: number;
}

type Scope = Map<string, Held>;

/** An array in memory, in the kernel's order of arguments. */
interface Memory {
  readonly element: string;
  readonly data: Float64Array;
}

function setting({ attributes }: Instruction, name: string): string {
  const found = new RegExp(`\\b${name} = (?:"([^"]*)"|(\\d+))`).exec(String(attributes.config));
  if (!found) throw new Error(`a kernel without ${name}`);
  return found[1] ?? found[2]!;
}

/** What the call makes: its results as the programs wrote them. Throws for instructions that are not printed, and for types that do not fit. */
export function evaluateTriton(instruction: Instruction, operands: readonly Evaluated[]): Float64Array[] {
  const { resultTypes } = instruction;
  const text = setting(instruction, 'ir').replace(/\\([0-9A-F]{2})/g, (_, code: string) =>
    String.fromCharCode(Number.parseInt(code, 16)),
  );
  // What no program writes is not defined.
  const results = resultTypes.map((type) =>
    memoryOf(type, new Float64Array(size(type.dims)).fill(Number.NaN)),
  );
  const memory = [...operands.map(({ type, data }) => memoryOf(type, data)), ...results];
  const lines = text.split('\n').filter((line) => line !== '');
  const [module, header, ...rest] = lines as [string, string, ...string[]];
  if (module !== 'module {' || rest.slice(-3).join() !== 'tt.return,},}') throw new Error('no kernel');
  const parameters = [...header.matchAll(/(%\w+): !tt\.ptr<(\w+)>/g)].map(([, id, element]) => [
    id!,
    element!,
  ]);
  if (parameters.map(([, element]) => element).join() !== memory.map(({ element }) => element).join())
    throw new Error(`a kernel of ${header} for ${memory.map(({ element }) => element)}`);
  const body = rest.slice(0, -3);
  const [x, y, z] = ['x', 'y', 'z'].map((axis) => Number(setting(instruction, `grid_${axis}`))) as [
    number,
    number,
    number,
  ];
  const threads = 32 * Number(setting(instruction, 'num_warps'));
  if (threads > 1024) throw new Error(`${threads} threads`);
  for (let program = 0; program < x * y * z; program++) {
    const scope: Scope = new Map(
      parameters.map(([id, element], i) => [
        id!,
        { type: `!tt.ptr<${element}>`, data: new Float64Array(1), array: i },
      ]),
    );
    const place = { x: program % x, y: Math.floor(program / x) % y, z: Math.floor(program / x / y) };
    new Run(scope, memory, place).lines(body, 0, body.length);
  }
  return results.map(({ data }) => data);
}

function memoryOf(type: TensorType, data: Float64Array): Memory {
  return { element: type.element, data };
}

function size(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** Dims and element of `tensor<2x3xf32>`, `f32`, or of pointers. */
function parts(type: string): { dims: number[]; element: string } {
  const found = /^tensor<((?:\d+x)*)(.*)>$/.exec(type);
  if (!found) return { dims: [], element: type };
  const dims = found[1]!.split('x').filter(Boolean).map(Number);
  for (const dim of dims)
    if (!Number.isInteger(Math.log2(dim))) throw new Error(`${type} is no power of two`);
  return { dims, element: found[2]! };
}

function rounded(data: Float64Array, element: string): Float64Array {
  if (element === 'f32') return data.map(Math.fround);
  if (element === 'f16')
    return Float64Array.from(float16ToFloat32(float32ToFloat16(Float32Array.from(data))));
  if (element === 'bf16')
    return Float64Array.from(bfloat16ToFloat32(float32ToBfloat16(Float32Array.from(data))));
  return data;
}

const BINARY: Readonly<Record<string, (a: number, b: number) => number>> = {
  addf: (a, b) => a + b,
  subf: (a, b) => a - b,
  mulf: (a, b) => a * b,
  addi: (a, b) => a + b,
  subi: (a, b) => a - b,
  muli: (a, b) => a * b,
  minsi: Math.min,
  minnumf: Math.min,
  divsi: (a, b) => Math.trunc(a / b),
  andi: (a, b) => a & b,
  ori: (a, b) => a | b,
  xori: (a, b) => a ^ b,
  shli: (a, b) => a << b,
};

const COMPARISONS: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  eq: (a, b) => a === b,
  slt: (a, b) => a < b,
  sgt: (a, b) => a > b,
};

/** What runs: its names, the arrays in memory, and the program's place in the grid. */
class Run {
  constructor(
    private readonly scope: Scope,
    private readonly memory: readonly Memory[],
    private readonly program: Readonly<Record<string, number>>,
  ) {}

  get(id: string, type: string): Held {
    const held = this.scope.get(id);
    if (held?.type !== type) throw new Error(`${id} is ${held?.type ?? 'not known'}, not ${type}`);
    return held;
  }

  set(id: string, type: string, data: Float64Array, array?: number): void {
    const { dims, element } = parts(type);
    if (data.length !== size(dims)) throw new Error(`${id}: ${data.length} numbers for ${type}`);
    this.scope.set(id, { type, data: rounded(data, element), ...(array !== undefined && { array }) });
  }

  /** The array that an address lies in, and the places there that it stands for. */
  private places(id: string, type: string, mask?: Float64Array): Memory & { readonly places: Float64Array } {
    const { data: places, array } = this.get(id, type);
    const memory = this.memory[array!]!;
    for (const [i, place] of places.entries())
      if (mask?.[i] !== 0 && !(place >= 0 && place < memory.data.length))
        throw new Error(`${id} is outside of its array`);
    return { ...memory, places };
  }

  /** Runs lines; returns what the last one yields. */
  lines(lines: readonly string[], from: number, to: number): Held[] {
    for (let at = from; at < to; at++) {
      const line = lines[at]!;
      const yielded = /^scf\.yield (.*) : (.*)$/.exec(line);
      if (yielded) {
        const types = yielded[2]!.split(', ');
        return yielded[1]!.split(', ').map((id, i) => this.get(id, types[i]!));
      }
      if (line.includes('scf.for')) at = this.loop(lines, at);
      else if (line.includes('"tt.')) at = this.collective(lines, at);
      else this.instruction(line);
    }
    return [];
  }

  private instruction(line: string): void {
    let apply = meanings.get(line);
    if (!apply) {
      apply = meaningOf(line);
      meanings.set(line, apply);
    }
    apply(this);
  }

  programAlong(axis: string): number {
    return this.program[axis]!;
  }

  load(
    pointers: string,
    type: string,
    mask: string | undefined,
    other: string | undefined,
  ): [string, Float64Array] {
    const holds = mask === undefined ? undefined : this.get(mask, type.replace(/!tt\.ptr<\w+>/, 'i1')).data;
    const { element, data, places } = this.places(pointers, type, holds);
    const loaded = type.replace(/!tt\.ptr<\w+>/, element);
    const instead = other === undefined ? undefined : this.get(other, loaded).data;
    return [loaded, places.map((place, i) => (holds?.[i] === 0 ? instead![i]! : data[place]!))];
  }

  store(pointers: string, type: string, id: string, mask: string | undefined): void {
    const holds = mask === undefined ? undefined : this.get(mask, type.replace(/!tt\.ptr<\w+>/, 'i1')).data;
    const { element, data, places } = this.places(pointers, type, holds);
    const value = this.get(id, type.replace(/!tt\.ptr<\w+>/, element));
    for (const [i, place] of places.entries()) if (holds?.[i] !== 0) data[place] = value.data[i]!;
  }

  /** A sum over an axis or the largest along it, or the sums of all numbers along it up to each. */
  private collective(lines: readonly string[], at: number): number {
    const [first, , sum, back, end] = lines.slice(at, at + 5) as [string, string, string, string, string];
    const found =
      /^(%\w+) = "tt\.(reduce|scan)"\((%\S+)\) <\{axis = (\d) : i32(?:, reverse = (true|false))?\}> \(\{$/.exec(
        first,
      );
    const types = /^\}\) : \((\S+)\) -> (\S+)$/.exec(end);
    const name = found?.[2];
    const how = /^%s = arith\.(addf|maxnumf) %l, %r : f32$/.exec(sum)?.[1];
    const isKnown = how === 'addf' || (how === 'maxnumf' && name === 'reduce');
    if (!types || !isKnown || back !== `tt.${name}.return %s : f32`)
      throw new Error(`«${first}» is not evaluated`);
    const [, id, , x, axis, reverse] = found as unknown as string[];
    const { data, type } = this.get(x!, types[1]!);
    const { dims } = parts(type);
    const made =
      name === 'reduce'
        ? reduced(data, dims, Number(axis), how === 'addf' ? [0, (a, b) => a + b] : [-Infinity, Math.max])
        : sumsAlong(data, dims, Number(axis), reverse === 'true');
    this.set(id!, types[2]!, made);
    return at + 4;
  }

  private loop(lines: readonly string[], at: number): number {
    const found =
      /^(%\w+):\d+ = scf\.for (%\w+) = (%\w+) to (%\w+) step (%\w+) iter_args\((.*)\) -> \((.*)\) : i32 \{$/.exec(
        lines[at]!,
      );
    if (!found) throw new Error(`«${lines[at]}» is not evaluated`);
    const [, results, index, from, to, step, pairs, all] = found as unknown as string[];
    const [first, last, by] = [from, to, step].map((id) => this.get(id!, 'i32').data[0]!) as [
      number,
      number,
      number,
    ];
    const given = pairs!.split(', ').map((pair) => pair.split(' = ') as [string, string]);
    const types = all!.split(', ');
    const end = lines.indexOf('}', at);
    let carried = given.map(([, id], i) => this.get(id, types[i]!));
    for (let i = first; i < last; i += by) {
      const inner: Scope = new Map(this.scope);
      inner.set(index!, { type: 'i32', data: Float64Array.of(i) });
      for (const [n, [id]] of given.entries()) inner.set(id, carried[n]!);
      carried = new Run(inner, this.memory, this.program).lines(lines, at + 1, end);
    }
    for (const [i, held] of carried.entries()) this.scope.set(`${results}#${i}`, held);
    return end;
  }
}

/** What lines that were run before mean: programs and tokens repeat them. */
const meanings = new Map<string, (run: Run) => void>();

function meaningOf(line: string): (run: Run) => void {
  for (const [pattern, apply] of RULES) {
    const found = pattern.exec(line);
    if (found) return (run) => apply(run, found.slice(1));
  }
  throw new Error(`«${line}» is not evaluated`);
}

/** Instructions by their text, with what they mean. */
const RULES: readonly (readonly [RegExp, (run: Run, groups: readonly string[]) => void])[] = [
  [
    /^(%\w+) = tt\.get_program_id (\w) : i32$/,
    (run, [id, axis]) => run.set(id!, 'i32', Float64Array.of(run.programAlong(axis!))),
  ],
  [
    /^(%\w+) = arith\.constant (?:dense<(.*)>|(-?\d+)) : (.*)$/,
    (run, [id, dense, single, type]) =>
      run.set(id!, type!, new Float64Array(size(parts(type!).dims)).fill(Number(dense ?? single))),
  ],
  [
    /^(%\w+) = tt\.make_range \{end = (\d+) : i32, start = 0 : i32\} : (.*)$/,
    (run, [id, end, type]) =>
      run.set(
        id!,
        type!,
        Float64Array.from({ length: Number(end) }, (_, i) => i),
      ),
  ],
  [
    /^(%\w+) = tt\.expand_dims (%\S+) \{axis = (\d) : i32\} : (\S+) -> (\S+)$/,
    (run, [id, x, axis, from, to]) => {
      const { dims } = parts(from!);
      dims.splice(Number(axis), 0, 1);
      if (parts(to!).dims.join() !== dims.join()) throw new Error(`${from} does not become ${to}`);
      run.set(id!, to!, run.get(x!, from!).data);
    },
  ],
  [
    /^(%\w+) = tt\.(?:splat|broadcast) (%\S+) : (\S+) -> (\S+)$/,
    (run, [id, x, from, to]) => {
      const { data, array } = run.get(x!, from!);
      run.set(id!, to!, repeated(data, parts(from!).dims, parts(to!).dims), array);
    },
  ],
  [
    /^(%\w+) = arith\.(addf|subf|mulf|addi|subi|muli|minsi|minnumf|divsi|andi|ori|xori|shli) (%\S+), (%\S+) : (\S+)$/,
    (run, [id, name, a, b, type]) => {
      const [x, y] = [run.get(a!, type!), run.get(b!, type!)];
      run.set(
        id!,
        type!,
        x.data.map((value, i) => BINARY[name!]!(value, y.data[i]!)),
      );
    },
  ],
  [
    /^(%\w+) = arith\.cmpi (slt|sgt|eq), (%\S+), (%\S+) : (\S+)$/,
    (run, [id, how, a, b, type]) => {
      const [x, y] = [run.get(a!, type!), run.get(b!, type!)];
      const holds = x.data.map((value, i) => Number(COMPARISONS[how!]!(value, y.data[i]!)));
      run.set(id!, type!.replace(/i32/, 'i1'), holds);
    },
  ],
  [
    /^(%\w+) = arith\.select (%\S+), (%\S+), (%\S+) : (\S+), (\S+)$/,
    (run, [id, condition, a, b, truths, type]) => {
      const [holds, x, y] = [run.get(condition!, truths!), run.get(a!, type!), run.get(b!, type!)];
      run.set(
        id!,
        type!,
        holds.data.map((value, i) => (value === 1 ? x : y).data[i]!),
      );
    },
  ],
  [
    /^(%\w+) = arith\.(?:extsi|extf|truncf) (%\S+) : (\S+) to (\S+)$/,
    (run, [id, x, from, to]) => run.set(id!, to!, run.get(x!, from!).data),
  ],
  [
    /^(%\w+) = math\.exp2 (%\S+) : (\S+)$/,
    (run, [id, x, type]) =>
      run.set(
        id!,
        type!,
        run.get(x!, type!).data.map((value) => 2 ** value),
      ),
  ],
  [
    /^(%\w+) = math\.absf (%\S+) : (\S+)$/,
    (run, [id, x, type]) => run.set(id!, type!, run.get(x!, type!).data.map(Math.abs)),
  ],
  [
    /^(%\w+) = tt\.trans (%\S+) \{order = array<i32: 1, 0>\} : (\S+) -> (\S+)$/,
    (run, [id, x, from, to]) => {
      const [rows, columns] = parts(from!).dims as [number, number];
      if (parts(to!).dims.join() !== [columns, rows].join()) throw new Error(`${from} does not become ${to}`);
      const { data } = run.get(x!, from!);
      run.set(
        id!,
        to!,
        data.map((_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!),
      );
    },
  ],
  [
    /^(%\w+) = tt\.dot (%\S+), (%\S+), (%\S+), inputPrecision = tf32x3 : (\S+) \* (\S+) -> (\S+)$/,
    (run, [id, a, b, c, left, right, to]) => {
      const [x, y, added] = [run.get(a!, left!), run.get(b!, right!), run.get(c!, to!)];
      run.set(id!, to!, product(x.data, y.data, added.data, parts(left!), parts(right!)));
    },
  ],
  [
    /^(%\w+) = tt\.addptr (%\S+), (%[^,\s]+)(?: \{tt\.contiguity = [^}]*\})? : (\S+), (\S+)$/,
    (run, [id, x, by, type, distance]) => {
      const [{ data, array }, { data: distances }] = [run.get(x!, type!), run.get(by!, distance!)];
      run.set(
        id!,
        type!,
        data.map((place, i) => place + distances[i]!),
        array,
      );
    },
  ],
  [
    /^(%\w+) = tt\.load (%[^,\s]+)(?:, (%[^,\s]+), (%[^,\s]+))? : (\S+)$/,
    (run, [id, pointers, mask, other, type]) => run.set(id!, ...run.load(pointers!, type!, mask, other)),
  ],
  [
    /^tt\.store (%[^,\s]+), (%[^,\s]+)(?:, (%[^,\s]+))? : (\S+)$/,
    (run, [pointers, value, mask, type]) => run.store(pointers!, type!, value!, mask),
  ],
];

/** A tensor repeated along its axes of size 1. */
function repeated(data: Float64Array, from: readonly number[], to: readonly number[]): Float64Array {
  if (from.length === 0) return new Float64Array(size(to)).fill(data[0]!);
  if (from.some((dim, i) => dim !== 1 && dim !== to[i])) throw new Error(`[${from}] does not become [${to}]`);
  let made = data;
  let inner = 1;
  // From the last axis on: what lies behind an axis is already whole.
  for (let axis = to.length - 1; axis >= 0; axis--) {
    const times = from[axis] === to[axis] ? 1 : to[axis]!;
    if (times > 1) {
      const rows = made.length / inner;
      const next = new Float64Array(made.length * times);
      for (let row = 0; row < rows; row++) {
        const part = made.subarray(row * inner, (row + 1) * inner);
        for (let i = 0; i < times; i++) next.set(part, (row * times + i) * inner);
      }
      made = next;
    }
    inner *= to[axis]!;
  }
  return made;
}

type Parts = ReturnType<typeof parts>;

/** a b + c, of matrices whose sizes tensor cores take. */
function product(a: Float64Array, b: Float64Array, c: Float64Array, left: Parts, right: Parts): Float64Array {
  const [rows, inner] = left.dims as [number, number];
  const columns = right.dims[1]!;
  if (right.dims[0] !== inner || left.element !== right.element || Math.min(rows, inner, columns) < 16)
    throw new Error(
      `no product of [${left.dims}] in ${left.element} and [${right.dims}] in ${right.element}`,
    );
  const made = c.slice();
  for (let i = 0; i < rows; i++)
    for (let k = 0; k < inner; k++) {
      const factor = a[i * inner + k]!;
      for (let j = 0; j < columns; j++) made[i * columns + j]! += factor * b[k * columns + j]!;
    }
  return made;
}

function sumsAlong(
  data: Float64Array,
  dims: readonly number[],
  axis: number,
  reverse: boolean,
): Float64Array {
  const inner = size(dims.slice(axis + 1));
  const count = dims[axis]!;
  const made = data.slice();
  const step = reverse ? -inner : inner;
  for (let n = 1; n < count; n++)
    for (let outer = 0; outer < data.length; outer += inner * count)
      for (let i = 0; i < inner; i++) {
        const at = outer + (reverse ? count - 1 - n : n) * inner + i;
        made[at]! += made[at - step]!;
      }
  return made;
}

function reduced(
  data: Float64Array,
  dims: readonly number[],
  axis: number,
  [none, both]: readonly [number, (a: number, b: number) => number],
): Float64Array {
  const inner = size(dims.slice(axis + 1));
  const count = dims[axis]!;
  const made = new Float64Array(data.length / count).fill(none);
  for (let i = 0; i < data.length; i++) {
    const outer = Math.floor(i / (inner * count));
    const place = outer * inner + (i % inner);
    made[place] = both(made[place]!, data[i]!);
  }
  return made;
}
