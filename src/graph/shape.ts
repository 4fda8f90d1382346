/**
 * Dimensions and shapes. A dimension is a number, or a name such as `batch`; names add and multiply, so a
 * dimension may also be a sum of products in canonical form: `past+sequence`, `2*batch*sequence`. In place of a name may
 * stand a quotient that is rounded up, `ceil(sequence/64)`: how many pieces a sequence is cut into.
 */
import { ShapeError } from '../errors.js';

/** A size, or the name of one that is known later, or a sum of products of such names. */
export type Dim = number | string;
/** The sizes of a tensor's axes, the outermost first. */
export type Shape = readonly Dim[];

/** A sum of products: the symbols of each product (joined by `*`, `''` for the constant) and its coefficient. */
type Sum = Map<string, number>;

const NAME = /^[A-Za-z_]\w*$/;
const QUOTIENT = /^ceil\((.+)\/([1-9]\d*)\)$/;

function parse(dim: Dim): Sum {
  if (typeof dim === 'number') return new Map(dim === 0 ? [] : [['', dim]]);
  const sum: Sum = new Map();
  for (const piece of cutBefore('+-', dim)) {
    const term = piece.replace(/^[+-]/, '');
    if (term === '') continue;
    let coefficient = piece.startsWith('-') ? -1 : 1;
    const symbols: string[] = [];
    for (const factor of factorsOf(term)) {
      const quotient = QUOTIENT.exec(factor);
      if (/^\d+$/.test(factor)) coefficient *= Number(factor);
      else if (NAME.test(factor)) symbols.push(factor);
      else if (quotient) symbols.push(`ceil(${format(parse(quotient[1]!))}/${quotient[2]})`);
      else throw new ShapeError(`'${dim}' is not a dimension: expected names and numbers joined by + - *`);
    }
    addTerm(sum, symbols.sort().join('*'), coefficient);
  }
  return sum;
}

/** `text` cut before each of `marks` that stands outside of parentheses. */
function cutBefore(marks: string, text: string): string[] {
  const pieces = [''];
  let depth = 0;
  for (const char of text) {
    depth += char === '(' ? 1 : char === ')' ? -1 : 0;
    if (depth === 0 && marks.includes(char)) pieces.push('');
    pieces[pieces.length - 1] += char;
  }
  return pieces;
}

function factorsOf(product: string): string[] {
  return product === '' ? [] : cutBefore('*', product).map((piece) => piece.replace(/^\*/, ''));
}

function addTerm(sum: Sum, product: string, coefficient: number): void {
  const total = (sum.get(product) ?? 0) + coefficient;
  if (total === 0) sum.delete(product);
  else sum.set(product, total);
}

function format(sum: Sum): Dim {
  const terms = [...sum].sort(([a], [b]) => (a === '' ? 1 : b === '' ? -1 : a < b ? -1 : 1));
  if (terms.length === 0) return 0;
  if (terms.length === 1 && terms[0]![0] === '') return terms[0]![1];
  let text = '';
  for (const [product, coefficient] of terms) {
    const size = Math.abs(coefficient);
    text += coefficient < 0 ? '-' : text === '' ? '' : '+';
    text += product === '' ? size : size === 1 ? product : `${size}*${product}`;
  }
  return text;
}

/** The sum of dimensions. */
export function addDims(...dims: Dim[]): Dim {
  if (dims.every((dim) => typeof dim === 'number')) return dims.reduce((a, b) => a + b, 0);
  const total: Sum = new Map();
  for (const dim of dims)
    for (const [product, coefficient] of parse(dim)) addTerm(total, product, coefficient);
  return format(total);
}

/** The product of dimensions: the number of elements, when they are a shape. */
export function multiplyDims(dims: Shape): Dim {
  let total: Sum = new Map([['', 1]]);
  for (const dim of dims) {
    const next: Sum = new Map();
    for (const [a, m] of total) {
      for (const [b, n] of parse(dim)) addTerm(next, multiplyProducts(a, b), m * n);
    }
    total = next;
  }
  return format(total);
}

/** `dim` divided by `divisor` where that is exact for every value of their symbols, else undefined. */
export function divideDim(dim: Dim, divisor: Dim): Dim | undefined {
  // Long division of polynomials: the leading term of what is left, divided by that of the divisor, is the next
  // term of the quotient.
  const rest = parse(dim);
  const by = parse(divisor);
  const first = leadingTerm(by);
  if (!first) return undefined;
  const quotient: Sum = new Map();
  for (let term = leadingTerm(rest); term; term = leadingTerm(rest)) {
    const coefficient = term[1] / first[1];
    const product = divideProduct(term[0], first[0]);
    if (product === undefined || !Number.isInteger(coefficient)) return undefined;
    addTerm(quotient, product, coefficient);
    for (const [other, m] of by) addTerm(rest, multiplyProducts(product, other), -m * coefficient);
  }
  return format(quotient);
}

/** The term with the most symbols; of several, the first in alphabetical order. */
function leadingTerm(sum: Sum): [string, number] | undefined {
  return [...sum].sort(([a], [b]) => factorsOf(b).length - factorsOf(a).length || (a < b ? -1 : 1))[0];
}

function multiplyProducts(a: string, b: string): string {
  return [...factorsOf(a), ...factorsOf(b)].sort().join('*');
}

function divideProduct(product: string, divisor: string): string | undefined {
  const symbols = factorsOf(product);
  for (const symbol of factorsOf(divisor)) {
    const at = symbols.indexOf(symbol);
    if (at < 0) return undefined;
    symbols.splice(at, 1);
  }
  return symbols.join('*');
}

/** How many pieces of size `divisor` hold `dim` elements: the quotient rounded up. */
export function divideDimUp(dim: Dim, divisor: number): Dim {
  if (typeof dim === 'number') return Math.ceil(dim / divisor);
  return divideDim(dim, divisor) ?? `ceil(${format(parse(dim))}/${divisor})`;
}

/** What a symbol of a dimension's terms divides, where it is a quotient and no name. */
export function quotientOf(symbol: string): { dim: Dim; divisor: number } | undefined {
  const quotient = QUOTIENT.exec(symbol);
  return quotient ? { dim: quotient[1]!, divisor: Number(quotient[2]) } : undefined;
}

/** The terms of a dimension, for whoever must compute its value: symbols (repeated for powers) and a coefficient. */
export function dimTerms(dim: Dim): { symbols: string[]; coefficient: number }[] {
  return [...parse(dim)].map(([product, coefficient]) => ({
    symbols: factorsOf(product),
    coefficient,
  }));
}

/** The names on which a dimension's value depends. */
export function namesIn(dim: Dim): string[] {
  return dimTerms(dim).flatMap(({ symbols }) =>
    symbols.flatMap((symbol) => {
      const quotient = quotientOf(symbol);
      return quotient ? namesIn(quotient.dim) : [symbol];
    }),
  );
}

/** The value of a dimension once its names are known. Throws `ShapeError` for one that is not. */
export function evaluateDim(dim: Dim, values: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const { symbols, coefficient } of dimTerms(dim)) {
    let product = coefficient;
    for (const symbol of symbols) {
      const quotient = quotientOf(symbol);
      const value = quotient
        ? Math.ceil(evaluateDim(quotient.dim, values) / quotient.divisor)
        : values.get(symbol);
      if (value === undefined) throw new ShapeError(`the dimension '${symbol}' has no value`);
      product *= value;
    }
    total += product;
  }
  return total;
}

/** Whether two shapes in canonical form are the same. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** `shape` in canonical form. Throws `ShapeError` for a dimension that is neither a size nor a sum of products. */
export function canonicalShape(shape: Shape): Shape {
  return shape.map((dim) => {
    if (typeof dim === 'string') return NAME.test(dim) ? dim : format(parse(dim));
    if (Number.isInteger(dim) && dim >= 0) return dim;
    throw new ShapeError(`${dim} is not a dimension: expected a whole number, 0 or more`);
  });
}

/** Matrices [..., rows, columns] as one, the rows of all below each other. */
export function asMatrix(dims: readonly number[]): [rows: number, columns: number] {
  return [dims.slice(0, -1).reduce((a, b) => a * b, 1), dims.at(-1)!];
}

/** `[2,batch,64]` */
export function formatShape(shape: Shape): string {
  return `[${shape.join(',')}]`;
}

/**
 * The shape that `a` and `b` share when size-1 and missing leading dimensions are repeated (NumPy's rule),
 * or undefined where there is none.
 */
export function broadcastShapes(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const shape: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x === y || y === 1) shape.push(x);
    else if (x === 1) shape.push(y);
    else return undefined;
  }
  return shape;
}

/** An axis counted from the front; negative ones count from the back. Throws `ShapeError` outside the rank. */
export function normalizeAxis(axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normalized < 0 || normalized >= rank) {
    throw new ShapeError(`axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return normalized;
}
