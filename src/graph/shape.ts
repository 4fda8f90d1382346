/**
 * Dimensions and shapes. A dimension is a number, or a name such as `batch`; names add and multiply, so a
 * dimension may also be a sum of products in canonical form: `past+sequence`, `2*batch*sequence`.
 */
import { ShapeError } from '../errors.js';

export type Dim = number | string;
export type Shape = readonly Dim[];

/** A sum of products: the symbols of each product (joined by `*`, `''` for the constant) and its coefficient. */
type Sum = Map<string, number>;

function parse(dim: Dim): Sum {
  if (typeof dim === 'number') return new Map(dim === 0 ? [] : [['', dim]]);
  const sum: Sum = new Map();
  for (const term of dim.replaceAll('-', '+-').split('+')) {
    if (term === '') continue;
    const negative = term.startsWith('-');
    let coefficient = negative ? -1 : 1;
    const symbols: string[] = [];
    for (const factor of (negative ? term.slice(1) : term).split('*')) {
      if (/^\d+$/.test(factor)) coefficient *= Number(factor);
      else if (/^[A-Za-z_]\w*$/.test(factor)) symbols.push(factor);
      else throw new ShapeError(`'${dim}' is not a dimension: expected names and numbers joined by + - *`);
    }
    addTerm(sum, symbols.sort().join('*'), coefficient);
  }
  return sum;
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
      for (const [b, n] of parse(dim)) {
        const symbols = [...a.split('*'), ...b.split('*')].filter((symbol) => symbol !== '');
        addTerm(next, symbols.sort().join('*'), m * n);
      }
    }
    total = next;
  }
  return format(total);
}

/** `dim` divided by `divisor` where that is exact for every value of their symbols, else undefined. */
export function divideDim(dim: Dim, divisor: Dim): Dim | undefined {
  const [only, ...others] = parse(divisor);
  if (only === undefined || others.length > 0) return dim === divisor ? 1 : undefined;
  const [product, coefficient] = only;
  const quotient: Sum = new Map();
  for (const [a, m] of parse(dim)) {
    const symbols = a.split('*').filter((symbol) => symbol !== '');
    for (const symbol of product.split('*').filter((name) => name !== '')) {
      const at = symbols.indexOf(symbol);
      if (at < 0) return undefined;
      symbols.splice(at, 1);
    }
    if (m % coefficient !== 0) return undefined;
    addTerm(quotient, symbols.join('*'), m / coefficient);
  }
  return format(quotient);
}

/** The terms of a dimension, for whoever must compute its value: symbols (repeated for powers) and a coefficient. */
export function dimTerms(dim: Dim): { symbols: string[]; coefficient: number }[] {
  return [...parse(dim)].map(([product, coefficient]) => ({
    symbols: product.split('*').filter((symbol) => symbol !== ''),
    coefficient,
  }));
}

/** The value of a dimension once its symbols are known. Throws `ShapeError` for a symbol that is not. */
export function evaluateDim(dim: Dim, values: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const { symbols, coefficient } of dimTerms(dim)) {
    let product = coefficient;
    for (const symbol of symbols) {
      const value = values.get(symbol);
      if (value === undefined) throw new ShapeError(`the dimension '${symbol}' has no value`);
      product *= value;
    }
    total += product;
  }
  return total;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
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
