/**
 * What a rendering may use. A template is a program from outside: it may loop without end, or build a text that fills the
 * memory. So every evaluated node, every element and every 32 characters that an operation reads or makes count as a step,
 * slower work as several, and no text may be longer than the limit. Steps, unlike seconds, are the same on every machine.
 *
 * Rendering is synchronous, so the budget of the rendering in progress is a variable of this module: operators and filters
 * spend from it without handing it on.
 */
import { TemplateError } from './errors.js';

/** What a rendering may use before it ends with a `TemplateError`. */
export interface TemplateLimits {
  /** Steps that a rendering may take: some 10 million a second. */
  readonly steps: number;
  /** Characters (UTF-16 units) of the result, and of every text on the way. */
  readonly length: number;
}

/** Far above what conversations need, and a fraction of a second of work. */
export const TEMPLATE_LIMITS: TemplateLimits = { steps: 2_000_000, length: 2 ** 24 };

/** Macros, recursive loops and nested values may stand so deep inside one another; Python's own stack allows about as many. */
const DEEPEST = 200;

// Without a bound while nothing is rendered.
let limits = TEMPLATE_LIMITS;
let left = Infinity;
let depth = 0;

/** Runs `work` with a budget of its own. Throws `TemplateError` when that is used up. */
export function within<T>(allowed: TemplateLimits, work: () => T): T {
  const outer = { limits, left, depth };
  limits = allowed;
  left = allowed.steps;
  depth = 0;
  try {
    return work();
  } finally {
    ({ limits, left, depth } = outer);
  }
}

/** Counts steps of the template that is being rendered. Throws `TemplateError` when its limit is passed. */
export function spend(steps = 1): void {
  left -= steps;
  if (left < 0) throw new TemplateError('steps', `more than ${limits.steps} steps`);
}

/** For a text of so many characters that is read or made; `weight` times where each takes a while. */
export function spendText(length: number, weight = 1): void {
  checkLength(length);
  spend((length * weight) / 32);
}

const LARGE = 1n << 256n;

/** For computing or writing an int, which takes a while where it has thousands of digits. */
export function spendInteger(value: bigint): void {
  if (value > LARGE || value < -LARGE) spend(2000);
}

/** For a text that two others are joined to: the engine copies them when it is read, which is then counted. */
export function checkLength(length: number): void {
  if (length > limits.length) throw new TemplateError('length', `a text of ${length} characters`);
}

/** Runs what may contain itself: a call, or a value inside a value. */
export function nested<T>(work: () => T): T {
  if (depth >= DEEPEST) throw new TemplateError('failed', `it is nested more than ${DEEPEST} deep`);
  depth++;
  try {
    return work();
  } finally {
    depth--;
  }
}
