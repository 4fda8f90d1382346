/** Native functions that a template can call, with parameters bound as in Python. */
import { spend } from './budget.js';
import { failed } from './errors.js';
import { type Arguments, Dict, PythonObject, Tuple, type Value } from './values.js';

interface Parameter {
  readonly name: string;
  readonly kind: 'one' | 'rest' | 'named';
  /** The default value; undefined for a required parameter. */
  readonly usual: Value | undefined;
}

/** A function: its parameters are bound, then passed to `body` in order. */
export interface Native {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly body: (...values: Value[]) => Value;
}

/**
 * A function with parameters as Python would declare them: `width=80, fill=' ', *args, **kwargs`. The rest of the positional
 * arguments arrives as a tuple, the rest of the keyword arguments as a dict.
 */
export function native(name: string, parameters: string, body: (...values: never[]) => Value): Native {
  const parts = parameters === '' ? [] : parameters.split(/, (?=[*\w])/);
  return { name, parameters: parts.map(parameterOf), body: body as Native['body'] };
}

function parameterOf(source: string): Parameter {
  const [, stars = '', name = '', usual] = /^(\**)(\w+)(?:=(.*))?$/.exec(source)!;
  const kind = stars === '' ? 'one' : stars === '*' ? 'rest' : 'named';
  return { name, kind, usual: usual === undefined ? undefined : constantOf(usual) };
}

function constantOf(source: string): Value {
  if (source === 'None') return null;
  if (source === 'True' || source === 'False') return source === 'True';
  if (/^['"]/.test(source)) return source.slice(1, -1);
  return source.includes('.') ? Number(source) : BigInt(source);
}

/** Calls a function; `before` are its first arguments, such as the text of a method call. */
export function callNative(
  { name, parameters, body }: Native,
  { positional, named }: Arguments,
  ...before: Value[]
): Value {
  spend(positional.length);
  const values: Value[] = [...before, ...positional];
  const bound: Value[] = [];
  const isUsed = new Set<string>();
  let next = 0;
  for (const { name: parameter, kind, usual } of parameters) {
    if (kind === 'rest') {
      bound.push(new Tuple(values.slice(next)));
      next = values.length;
    } else if (kind === 'named') {
      const rest = Array.from(named).filter(([key]) => !isUsed.has(key));
      for (const [key] of rest) isUsed.add(key);
      bound.push(Dict.of(rest));
    } else if (next < values.length) {
      if (named.has(parameter)) throw failed(`${name}() got multiple values for argument '${parameter}'`);
      bound.push(values[next++]!);
    } else {
      const value = named.has(parameter) ? named.get(parameter) : usual;
      if (value === undefined)
        throw failed(`${name}() missing 1 required positional argument: '${parameter}'`);
      isUsed.add(parameter);
      bound.push(value);
    }
  }
  if (next < values.length) {
    throw failed(`${name}() takes ${next} positional arguments but ${values.length} were given`);
  }
  for (const key of named.keys()) {
    if (!isUsed.has(key)) throw failed(`${name}() got an unexpected keyword argument '${key}'`);
  }
  return body(...bound);
}

/** A function as a value; a method is bound to its object. */
export class NativeFunction extends PythonObject {
  readonly type = 'builtin_function_or_method';
  readonly #before: readonly Value[];
  constructor(
    private readonly native: Native,
    ...before: Value[]
  ) {
    super();
    this.#before = before;
  }
  repr(): string {
    return `<built-in function ${this.native.name}>`;
  }
  override call(given: Arguments): Value {
    return callNative(this.native, given, ...this.#before);
  }
}

/** Functions by their names. */
export const byName = (natives: readonly Native[]): ReadonlyMap<string, Native> =>
  new Map(natives.map((entry) => [entry.name, entry]));
