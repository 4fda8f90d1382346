/** Executes the statements of a template. */
import { checkLength, spend } from './budget.js';
import { failed } from './errors.js';
import { applyFilter, argumentsOf, call, evaluate } from './evaluate.js';
import { LoopState } from './loop.js';
import { Macro } from './macro.js';
import type { Scope } from './scope.js';
import type { Loop, Statement, Target } from './syntax.js';
import { elements, GeneratorObject, isTrue, Namespace, textOf, type Value } from './values.js';

/** How a body ended: at its end, or at a `break` or `continue` of the enclosing loop. */
type Ending = 'end' | 'break' | 'continue';

/** Executes a body; returns its text. */
export function written(body: readonly Statement[], scope: Scope): string {
  const out = new Writer();
  run(body, scope, out);
  return out.text;
}

class Writer {
  text = '';
  write(text: string): void {
    checkLength(this.text.length + text.length);
    this.text += text;
  }
}

function run(body: readonly Statement[], scope: Scope, out: Writer): Ending {
  for (const statement of body) {
    const ending = execute(statement, scope, out);
    if (ending !== 'end') return ending;
  }
  return 'end';
}

function execute(statement: Statement, scope: Scope, out: Writer): Ending {
  spend();
  switch (statement.kind) {
    case 'text':
      out.write(statement.text);
      return 'end';
    case 'print':
      out.write(textOf(evaluate(statement.value, scope)));
      return 'end';
    case 'if': {
      const branch = statement.branches.find(([test]) => isTrue(evaluate(test, scope)));
      return run(branch ? branch[1] : statement.otherwise, scope, out);
    }
    case 'for':
      return loop(statement.loop, evaluate(statement.loop.over, scope), 0, scope, out);
    case 'break':
    case 'continue':
      return statement.kind;
    case 'set':
      assign(statement.target, evaluate(statement.value, scope), scope);
      return 'end';
    case 'set block': {
      const text = written(statement.body, scope.inner());
      assign(statement.target, statement.filter ? applyFilter(statement.filter, text, scope) : text, scope);
      return 'end';
    }
    case 'with': {
      const inner = scope.inner();
      // Each value is evaluated in the outer scope: the assignments do not see one another.
      for (const [target, value] of statement.assignments) assign(target, evaluate(value, scope), inner);
      return run(statement.body, inner, out);
    }
    case 'macro':
      scope.set(statement.macro.name, new Macro(statement.macro, scope, written));
      return 'end';
    case 'call block': {
      const { callee, given } = statement.call;
      const { positional, named } = argumentsOf(given, scope);
      const caller = new Macro(statement.caller, scope, written);
      const value = call(evaluate(callee, scope), {
        positional,
        named: new Map([...named, ['caller', caller]]),
      });
      out.write(textOf(value));
      return 'end';
    }
    case 'filter block':
      out.write(textOf(applyFilter(statement.filter, written(statement.body, scope.inner()), scope)));
      return 'end';
    case 'scope':
      return run(statement.body, (statement.seesLoops ? scope : scope.top).inner(), out);
  }
}

function loop(definition: Loop, over: Value, depth: number, scope: Scope, out: Writer): Ending {
  const { target, only, isRecursive, body, otherwise } = definition;
  const again = (inner: Value, level: number): Value => {
    const text = new Writer();
    loop(definition, inner, level, scope, text);
    return text.text;
  };
  const state = new LoopState(
    only ? chosen(definition, over, scope) : over,
    depth,
    isRecursive ? again : undefined,
  );
  let isEmpty = true;
  for (let next = state.next(); !next.done; next = state.next()) {
    isEmpty = false;
    spend(3);
    const inner = scope.inner();
    inner.set('loop', state);
    assign(target, next.value, inner);
    if (run(body, inner, out) === 'break') break;
  }
  // A `break` or `continue` there belongs to the enclosing loop.
  return isEmpty ? run(otherwise, scope.inner(), out) : 'end';
}

/** The elements for which the loop's `if` holds. */
function chosen({ target, only }: Loop, over: Value, scope: Scope): Value {
  function* picked(): Generator<Value> {
    for (const item of elements(over)) {
      const inner = scope.inner();
      assign(target, item, inner);
      if (isTrue(evaluate(only!, inner))) yield item;
    }
  }
  return new GeneratorObject(picked());
}

function assign(target: Target, value: Value, scope: Scope): void {
  if (target.kind === 'name') scope.set(target.name, value);
  else if (target.kind === 'member') {
    const namespace = scope.get(target.namespace);
    if (!(namespace instanceof Namespace)) throw failed('cannot assign attribute on non-namespace object');
    namespace.set(target.name, value);
  } else unpack(target.items, Array.from(elements(value)), scope);
}

function unpack(targets: readonly Target[], values: readonly Value[], scope: Scope): void {
  const wanted = targets.length;
  if (values.length > wanted) throw failed(`too many values to unpack (expected ${wanted})`);
  if (values.length < wanted) {
    throw failed(`not enough values to unpack (expected ${wanted}, got ${values.length})`);
  }
  for (const [i, target] of targets.entries()) assign(target, values[i]!, scope);
}
