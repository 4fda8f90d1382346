/** Why a template gave no text. */
export type TemplateFailure =
  /** It cannot be parsed. */
  | 'syntax'
  /** It called `raise_exception`. */
  | 'raised'
  /** It did what Python or Jinja refuses, such as adding a text to a number. */
  | 'failed'
  /** It would not end within its steps. */
  | 'steps'
  /** It made a text that is too long. */
  | 'length';

/** A template cannot be parsed or rendered; `failure` says in which way. */
export class TemplateError extends Error {
  constructor(
    readonly failure: TemplateFailure,
    message: string,
  ) {
    super(message);
    this.name = 'TemplateError';
  }
}

/** What Python would raise as a TypeError, a ValueError and the like, in its words. */
export function failed(message: string): TemplateError {
  return new TemplateError('failed', message);
}
