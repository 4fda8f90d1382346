/**
 * Jinja for chat templates, as `transformers` sets it up in Python: the immutable sandbox, `trim_blocks` and
 * `lstrip_blocks`, `break` and `continue`, its own `tojson`, `raise_exception` and `strftime_now`. Prompts must come out
 * to the letter as the model was trained on them, so values are Python's (see values.ts), and a table of snippets holds
 * the results against Jinja's own.
 *
 * The interpreter is our own: `@huggingface/jinja` computes with JavaScript's values, so that None, 1.0 and large integers
 * print otherwise, and has no measure of its work, so that an untrusted template needs a process to be stopped in.
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
   * The text for these variables: objects, or maps as `readExactJson` gives them, the later ones before the earlier ones.
   * Throws `TemplateError` when the template fails, refuses or uses up its limits; `TypeError` for variables that are no
   * data.
   */
  render(variables: readonly Variables[], limits: TemplateLimits): string {
    const values = variables.flatMap((some) => Array.from(dictFrom(some).entries()) as [string, Value][]);
    return withStack(() => within(limits, () => written(this.#body, Scope.root(values))));
  }
}

/** The variables of a template by name. */
export type Variables = Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>;

/** An expression of many operators is as deep as they are many, and may fill the stack. */
function withStack<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new TemplateError('failed', `it is nested too deep or too large (${error.message})`);
  }
}
