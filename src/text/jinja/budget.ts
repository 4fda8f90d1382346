/**
 * Limits of a rendering. A template is an untrusted program: it may loop endlessly, or build a text that fills the
 * memory. Therefore every evaluated node, every element and every 32 characters that an operation reads or writes count as a step,
 * slow operations as several, and the length of texts is limited. Steps, unlike seconds, are the same on every machine.
 *
 * Rendering is synchronous, so the budget of the current rendering is a variable of this module, which operators and filters
 * can use without passing it on.
 */
import { TemplateError } from './errors.js';

/** The limits beyond which a rendering ends with a `TemplateError`. */
export interface TemplateLimits {
  /** The most steps; about 10 million take a second. */
  readonly steps: number;
  /** The most characters (UTF-16 units) of the result and of every intermediate text. */
  readonly length: number;
}

/** Limits far above what conversations need, yet a fraction of a second of work. */
export const TEMPLATE_LIMITS: TemplateLimits = { steps: 2_000_000, length: 2 ** 24 };

/** The deepest nesting of macros, recursive loops and values, about that of Python's stack. */
const DEEPEST = 200;

// Unlimited while nothing is rendered.
let limits = TEMPLATE_LIMITS;
let left = Infinity;
let depth = 0;

/** Runs `work` with a new budget. Throws `TemplateError` when it is used up. */
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

/** Counts the steps of a text that is read or written; `weight` is the cost per character. */
export function spendText(length: number, weight = 1): void {
  checkLength(length);
  spend((length * weight) / 32);
}

const LARGE = 1n << 256n;

/** Counts the steps of computing or printing an int, which may have thousands of digits. */
export function spendInteger(value: bigint): void {
  if (value > LARGE || value < -LARGE) spend(2000);
}

/** Checks the length of a concatenated text; the engine copies the parts only when it is read, which is counted then. */
export function checkLength(length: number): void {
  if (length > limits.length) throw new TemplateError('length', `a text of ${length} characters`);
}

/** Runs recursive work with a limit of the depth: a call, or a nested value. */
export function nested<T>(work: () => T): T {
  if (depth >= DEEPEST) throw new TemplateError('failed', `it is nested more than ${DEEPEST} deep`);
  depth++;
  try {
    return work();
  } finally {
    depth--;
  }
}
