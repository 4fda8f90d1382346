/** Calls in Python syntax. */
import { type CallEnd, type CallScope, type CallSink, isCallable } from './call-scope.js';
import { type Characters, type Parser, skip } from './characters.js';
import { literal } from './literal.js';
import type { CallableTool } from './typed-value.js';

/** Reads a call such as `name(city='Paris', days=3)`. */
export function* pythonCall(chars: Characters, sink: CallSink, scope: CallScope): Parser<CallEnd> {
  const { form, tools } = scope;
  let name = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined) return 'none';
    if (!/[\w.-]/.test(next)) break;
    name += chars.take();
  }
  // Llama 3 calls its built-in tools in this way.
  name = name.replace(/\.call$/, '');
  yield* chars.skipSpace();
  if (name === '' || (yield* chars.peek()) !== '(' || !isCallable(name, scope)) return 'none';
  chars.take();
  sink.begin(name);
  const tool = tools.find((each) => each.name === name);
  const names = positions(tool);
  let count = 0;
  for (;;) {
    yield* skip(chars, ',');
    const next = yield* chars.peek();
    if (next === undefined) return 'cut';
    if (next === ')') {
      chars.take();
      sink.arguments(count === 0 ? '{}' : '}');
      return 'call';
    }
    const key = yield* keywordOf(chars);
    if (key === 'cut') return 'cut';
    const argument = key?.name ?? names[count] ?? `arg${count}`;
    const begin = `${count === 0 ? '{' : ', '}${JSON.stringify(argument)}: `;
    count++;
    sink.arguments(begin);
    const end = yield* literal(chars, (json) => sink.arguments(json), form.closes);
    if (end === 'cut') return 'cut';
    if (end === 'broken') {
      sink.arguments('}');
      return 'call';
    }
  }
}

/** Consumes a name and `=`; undefined, with nothing consumed, if there is none. */
function* keywordOf(chars: Characters): Parser<{ name: string } | 'cut' | undefined> {
  let length = 0;
  for (;;) {
    const next = yield* chars.peek(length);
    if (next === undefined) return 'cut';
    if (!/[\w-]/.test(next)) break;
    length++;
  }
  const space = yield* chars.space(length);
  if (length === 0 || (yield* chars.peek(length + space)) !== '=') return undefined;
  const name = chars.take(length);
  chars.take(space + 1);
  yield* chars.skipSpace();
  return { name };
}

/** The names of a tool's arguments in the order in which its schema has them. */
function positions(tool: CallableTool | undefined): string[] {
  const properties = (tool?.parameters as { properties?: unknown } | undefined)?.properties;
  return typeof properties === 'object' && properties !== null ? Object.keys(properties) : [];
}
