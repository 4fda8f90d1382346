/** Calls as JSON objects: the name, the arguments and an id are members, in any order and under several names. */
import { type CallEnd, type CallScope, type CallSink, isCallable } from './call-scope.js';
import { type Characters, type Parser, skip } from './characters.js';
import { literal, wholeLiteral } from './literal.js';

const NAME_KEYS = new Set(['name', 'tool_name', 'function_name', 'function', 'tool']);
const ARGUMENT_KEYS = new Set(['arguments', 'parameters', 'args', 'tool_parameters', 'input']);
const ID_KEYS = new Set(['id', 'tool_call_id', 'call_id']);

/** The members of a call's object that have been read. */
interface Members {
  name?: string;
  id?: string;
  /** Arguments that precede the name. */
  early?: string;
  begun: boolean;
}

/** Reads a call that starts with `{`. */
export function* objectCall(chars: Characters, sink: CallSink, scope: CallScope): Parser<CallEnd> {
  const members: Members = { begun: false };
  const end = yield* readMembers(chars, sink, scope, members);
  if (end !== 'whole') return members.begun ? (end === 'cut' ? 'cut' : 'call') : 'none';
  if (members.begun) return 'call';
  if (members.name === undefined || !isCallable(members.name, scope)) return 'none';
  sink.begin(members.name, members.id);
  sink.arguments(members.early ?? '{}');
  return 'call';
}

function* readMembers(
  chars: Characters,
  sink: CallSink,
  scope: CallScope,
  members: Members,
): Parser<'whole' | 'broken' | 'cut'> {
  const { closes } = scope.form;
  chars.take();
  for (;;) {
    yield* skip(chars, ',');
    const next = yield* chars.peek();
    if (next === undefined) return 'cut';
    if (next === '}') {
      chars.take();
      return 'whole';
    }
    // The closing bracket is missing before the closing mark.
    if (members.begun && (yield* chars.oneOf(closes)) !== undefined) return 'whole';
    const key = yield* textValue(chars, closes);
    yield* chars.skipSpace();
    if (key === undefined || (yield* chars.peek()) !== ':') return yield* unfinished(chars);
    chars.take();
    yield* chars.skipSpace();
    const isObject = (yield* chars.peek()) === '{';
    if (key === 'function' && isObject) {
      const inner = yield* readMembers(chars, sink, scope, members);
      if (inner !== 'whole') return inner;
    } else if (ARGUMENT_KEYS.has(key) && !members.begun) {
      const end = yield* readArguments(chars, sink, scope, members);
      if (end !== 'whole') return end;
    } else {
      // Without a mark, an object is a call only if it has no other members.
      if (scope.unmarked && !(NAME_KEYS.has(key) || ID_KEYS.has(key) || key === 'type')) return 'broken';
      const json = yield* wholeLiteral(chars, closes);
      if (json === undefined) return yield* unfinished(chars);
      const text = json.startsWith('"') ? (JSON.parse(json) as string) : undefined;
      if (NAME_KEYS.has(key) && text !== undefined) members.name ??= text;
      else if (ID_KEYS.has(key) && text !== undefined) members.id ??= text;
    }
  }
}

function* unfinished(chars: Characters): Parser<'broken' | 'cut'> {
  return (yield* chars.peek()) === undefined ? 'cut' : 'broken';
}

/** The value of `arguments`: an object; or its JSON as a string; or null for none. */
function* readArguments(
  chars: Characters,
  sink: CallSink,
  scope: CallScope,
  members: Members,
): Parser<'whole' | 'broken' | 'cut'> {
  const { closes } = scope.form;
  const isObject = (yield* chars.peek()) === '{';
  if (isObject && members.name !== undefined) {
    if (!isCallable(members.name, scope)) return 'broken';
    sink.begin(members.name, members.id);
    members.begun = true;
    const end = yield* literal(chars, (json) => sink.arguments(json), closes);
    // Broken JSON was closed; the call has been emitted as far as possible.
    return end === 'cut' ? 'cut' : 'whole';
  }
  const json = yield* wholeLiteral(chars, closes);
  if (json === undefined) return yield* unfinished(chars);
  members.early = isObject ? json : objectIn(json);
  return 'whole';
}

/** Converts arguments that are written in another form to an object. */
function objectIn(json: string): string {
  const value: unknown = JSON.parse(json);
  if (value === null) return '{}';
  if (typeof value !== 'string') return json;
  if (value.trim() === '') return '{}';
  try {
    const inner: unknown = JSON.parse(value);
    return inner === null ? '{}' : typeof inner === 'object' ? value : json;
  } catch {
    return json;
  }
}

/** Reads a string; undefined if there is none. */
function* textValue(chars: Characters, marks: readonly string[]): Parser<string | undefined> {
  const next = yield* chars.peek();
  if (next !== '"' && next !== "'") return undefined;
  const json = yield* wholeLiteral(chars, marks);
  return json === undefined ? undefined : (JSON.parse(json) as string);
}
