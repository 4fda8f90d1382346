/** The reasons why a template fails. */
export type TemplateFailure =
  /** A syntax error. */
  | 'syntax'
  /** It called `raise_exception`. */
  | 'raised'
  /** A runtime error of Python or Jinja, such as adding a text to a number. */
  | 'failed'
  /** It exceeded the steps. */
  | 'steps'
  /** It exceeded the length of texts. */
  | 'length';

/** The error of a template that cannot be parsed or rendered; `failure` is the reason. */
export class TemplateError extends Error {
  constructor(
    readonly failure: TemplateFailure,
    message: string,
  ) {
    super(message);
    this.name = 'TemplateError';
  }
}

/** An error that Python would raise as TypeError, ValueError or similar, with its message. */
export function failed(message: string): TemplateError {
  return new TemplateError('failed', message);
}
