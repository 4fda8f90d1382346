/** The value of an expression. */
import { attributeOf, itemOf } from './access.js';
import { binary, concatenation, negative, positive, sliced } from './arithmetic.js';
import { nested, spend } from './budget.js';
import { contains, isEqual, order } from './compare.js';
import { failed } from './errors.js';
import { filterNamed, testNamed } from './filters.js';
import { callNative } from './native.js';
import type { Scope } from './scope.js';
import type { CallArguments, ComparisonOperator, Expression } from './syntax.js';
import {
  type Arguments,
  Dict,
  elements,
  isTrue,
  orElse,
  PythonObject,
  Tuple,
  textOf,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** The value of an expression. A name that is not defined becomes `Undefined`, which fails when it is used. Throws `TemplateError`. */
export function evaluate(expression: Expression, scope: Scope): Value {
  spend();
  switch (expression.kind) {
    case 'constant':
      return expression.value;
    case 'name':
      return orElse(scope.get(expression.name), () => new Undefined(`'${expression.name}' is undefined`));
    case 'list':
      return expression.items.map((item) => evaluate(item, scope));
    case 'tuple':
      return new Tuple(expression.items.map((item) => evaluate(item, scope)));
    case 'concat':
      return concatenation(expression.items.map((item) => evaluate(item, scope)));
    case 'dict':
      return Dict.of(
        expression.entries.map(([key, value]) => [evaluate(key, scope), evaluate(value, scope)]),
      );
    case 'attribute':
      return attributeOf(evaluate(expression.from, scope), expression.name);
    case 'item':
      return itemOf(evaluate(expression.from, scope), evaluate(expression.key, scope));
    case 'slice': {
      const { from, start, stop, step } = expression;
      return sliced(
        evaluate(from, scope),
        evaluate(start, scope),
        evaluate(stop, scope),
        evaluate(step, scope),
      );
    }
    case 'call':
      return call(evaluate(expression.callee, scope), argumentsOf(expression.given, scope));
    case 'filter':
      return applyFilter(expression, undefined, scope);
    case 'test': {
      const value = evaluate(expression.value, scope);
      return isTrue(callNative(testNamed(expression.name), argumentsOf(expression.given, scope), value));
    }
    case 'not':
      return !isTrue(evaluate(expression.value, scope));
    case 'negative':
      return negative(evaluate(expression.value, scope));
    case 'positive':
      return positive(evaluate(expression.value, scope));
    case 'and': {
      const left = evaluate(expression.left, scope);
      return isTrue(left) ? evaluate(expression.right, scope) : left;
    }
    case 'or': {
      const left = evaluate(expression.left, scope);
      return isTrue(left) ? left : evaluate(expression.right, scope);
    }
    case 'binary':
      return binary(expression.operator, evaluate(expression.left, scope), evaluate(expression.right, scope));
    case 'comparison':
      return compared(expression, scope);
    case 'condition': {
      if (isTrue(evaluate(expression.test, scope))) return evaluate(expression.yes, scope);
      if (expression.no) return evaluate(expression.no, scope);
      return new Undefined('the inline if-expression evaluated to false and no else section was defined.');
    }
  }
}

/** `a < b < c` is `a < b and b < c`, with `b` evaluated once. */
function compared({ first, others }: Expression & { kind: 'comparison' }, scope: Scope): boolean {
  let left = evaluate(first, scope);
  for (const [operator, operand] of others) {
    const right = evaluate(operand, scope);
    if (!holds(operator, left, right)) return false;
    left = right;
  }
  return true;
}

function holds(operator: ComparisonOperator, left: Value, right: Value): boolean {
  switch (operator) {
    case '==':
      return isEqual(left, right);
    case '!=':
      return !isEqual(left, right);
    case 'in':
      return contains(right, left);
    case 'not in':
      return !contains(right, left);
    case '<':
      return order(left, right, operator) < 0;
    case '<=':
      return order(left, right, operator) <= 0;
    case '>':
      return order(left, right, operator) > 0;
    case '>=':
      return order(left, right, operator) >= 0;
  }
}

/** Calls a value. Throws if it cannot be called. */
export function call(callee: Value, given: Arguments): Value {
  spend();
  if (callee instanceof Undefined) throw failed(callee.reason);
  if (!(callee instanceof PythonObject && callee.call))
    throw failed(`'${typeOf(callee)}' object is not callable`);
  const callable = callee as PythonObject & Required<Pick<PythonObject, 'call'>>;
  return nested(() => callable.call(given));
}

/** The values of a call's arguments, with `*` and `**` spread out. Throws `TemplateError` for a name that is given twice. */
export function argumentsOf({ positional, named, rest, restNamed }: CallArguments, scope: Scope): Arguments {
  const values = positional.map((value) => evaluate(value, scope));
  const names = new Map(named.map(([name, value]) => [name, evaluate(value, scope)]));
  if (rest) for (const value of elements(evaluate(rest, scope))) values.push(value);
  if (restNamed) {
    const more = evaluate(restNamed, scope);
    if (!(more instanceof Dict)) throw failed(`argument after ** must be a mapping, not ${typeOf(more)}`);
    for (const [name, value] of more.entries()) {
      if (typeof name !== 'string') throw failed('keywords must be strings');
      if (names.has(name)) throw failed(`got multiple values for keyword argument '${textOf(name)}'`);
      names.set(name, value);
    }
  }
  return { positional: values, named: names };
}

/** Applies a chain of filters; the first filter of a block gets `text`. */
export function applyFilter(filter: Expression, text: string | undefined, scope: Scope): Value {
  if (filter.kind !== 'filter') return evaluate(filter, scope);
  const { value, name, given } = filter;
  const from =
    value === undefined
      ? text!
      : text === undefined
        ? evaluate(value, scope)
        : applyFilter(value, text, scope);
  return callNative(filterNamed(name), argumentsOf(given, scope), from);
}
