/**
 * Jinja for chat templates, as `transformers` sets it up in Python: the immutable sandbox, `trim_blocks` and
 * `lstrip_blocks`, `break` and `continue`, its own `tojson`, `raise_exception` and `strftime_now`. Prompts must match the
 * training format exactly, so values behave like Python's (see values.ts), and a table of snippets compares the results with
 * Jinja's own.
 *
 * The interpreter is our own: `@huggingface/jinja` computes with JavaScript's values, so that None, 1.0 and large integers
 * print differently, and it has no limit of its work, so an untrusted template would need a separate process.
 */
import { type TemplateLimits, within } from './budget.js';
import { dictFrom } from './data.js';
import { TemplateError } from './errors.js';
import { written } from './execute.js';
import { parseTemplate } from './parser.js';
import { Scope } from './scope.js';
import type { Statement } from './syntax.js';
import type { Value } from './values.js';

export { TEMPLATE_LIMITS, type TemplateLimits } from './budget.js';
export { TemplateError, type TemplateFailure } from './errors.js';

/** A parsed chat template, which can be rendered any number of times. */
export class Template {
  readonly #body: readonly Statement[];

  /** Throws `TemplateError` for a source that cannot be parsed. */
  constructor(source: string) {
    this.#body = withStack(() => parseTemplate(source));
  }

  /**
   * Renders the template with these variables: objects, or maps from `readExactJson`; earlier ones override later ones.
   * Throws `TemplateError` when the template fails, refuses or exceeds its limits; `TypeError` for variables that are not
   * plain data.
   */
  render(variables: readonly Variables[], limits: TemplateLimits): string {
    const values = variables.flatMap((some) => Array.from(dictFrom(some).entries()) as [string, Value][]);
    return withStack(() => within(limits, () => written(this.#body, Scope.root(values))));
  }
}

/** The variables of a template by name. */
export type Variables = Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>;

/** The nesting of an expression grows with its operators and may overflow the stack. */
function withStack<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new TemplateError('failed', `it is nested too deep or too large (${error.message})`);
  }
}
