/** Scopes of variables in a template. */
import { GLOBALS } from './globals.js';
import type { Value } from './values.js';

/** The variables of a block; a name that it does not have is looked up in the scope around it. */
export class Scope {
  readonly #names = new Map<string, Value>();

  private constructor(private readonly outer: Scope | undefined) {}

  /** The scope of a whole template: its variables, which may shadow the globals. */
  static root(variables: Iterable<readonly [string, Value]>): Scope {
    const scope = new Scope(undefined);
    for (const [name, value] of variables) scope.set(name, value);
    return scope;
  }

  inner(): Scope {
    return new Scope(this);
  }

  /** The scope of the whole template. */
  get top(): Scope {
    let scope: Scope = this;
    while (scope.outer) scope = scope.outer;
    return scope;
  }

  set(name: string, value: Value): void {
    this.#names.set(name, value);
  }

  get(name: string): Value | undefined {
    for (let scope: Scope | undefined = this; scope; scope = scope.outer) {
      const value = scope.#names.get(name);
      if (value !== undefined) return value;
    }
    return GLOBALS.get(name);
  }
}
