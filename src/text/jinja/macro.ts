/** A macro, or the body of a `call` block, as a value that can be called. */
import { spend } from './budget.js';
import { failed } from './errors.js';
import { evaluate } from './evaluate.js';
import type { Scope } from './scope.js';
import type { MacroDefinition, Statement } from './syntax.js';
import { type Arguments, Dict, orElse, PythonObject, Tuple, Undefined, type Value } from './values.js';

/** A macro or a `call` block, which templates call like a function. */
export class Macro extends PythonObject {
  readonly type = 'Macro';

  constructor(
    private readonly definition: MacroDefinition,
    /** The scope of its definition, which its body sees. */
    private readonly scope: Scope,
    private readonly write: (body: readonly Statement[], scope: Scope) => string,
  ) {
    super();
  }

  override attribute(name: string): Value | undefined {
    const { parameters, takes } = this.definition;
    if (name === 'name') return this.definition.name;
    if (name === 'arguments') return new Tuple(parameters.map((parameter) => parameter.name));
    if (name === 'caller') return takes.caller;
    if (name === 'catch_varargs') return takes.varargs;
    return name === 'catch_kwargs' ? takes.kwargs : undefined;
  }

  /** Binds the arguments; a parameter without argument and default is Undefined. */
  override call({ positional, named }: Arguments): Value {
    const { name, parameters, takes, body } = this.definition;
    spend(positional.length + named.size);
    const inner = this.scope.inner();
    const rest = new Map(named);
    const absent: (() => void)[] = [];
    for (const [i, { name: parameter, usual }] of parameters.entries()) {
      const value = i < positional.length ? positional[i] : rest.get(parameter);
      if (i >= positional.length) rest.delete(parameter);
      if (value !== undefined) inner.set(parameter, value);
      else {
        inner.set(parameter, new Undefined(`parameter '${parameter}' was not provided`));
        // A default may use the parameters before it.
        if (usual) absent.push(() => inner.set(parameter, evaluate(usual, inner)));
      }
    }
    for (const bind of absent) bind();
    if (takes.caller && !parameters.some((parameter) => parameter.name === 'caller')) {
      inner.set(
        'caller',
        orElse(rest.get('caller'), () => new Undefined('No caller defined')),
      );
      rest.delete('caller');
    }
    if (takes.kwargs) inner.set('kwargs', Dict.of(rest));
    else if (rest.size > 0)
      throw failed(`macro '${name}' takes no keyword argument '${[...rest.keys()][0]}'`);
    if (takes.varargs) inner.set('varargs', new Tuple(positional.slice(parameters.length)));
    else if (positional.length > parameters.length) {
      throw failed(`macro '${name}' takes not more than ${parameters.length} argument(s)`);
    }
    return this.write(body, inner);
  }

  repr(): string {
    return `<Macro '${this.definition.name}'>`;
  }
}
