/**
 * Calls of tools behind the mark that opens them, in each of the styles that models have. A call is handed on as soon as it certainly is
 * one: its name first, then its arguments as JSON text, in pieces.
 */
import type { Characters, Step } from './characters.js';
import { type CallForm, type ElementForm, ID_PLACE, trimmed } from './form.js';
import { literal, wholeLiteral } from './literal.js';
import { argumentTypes, type CallableTool, isStringAlone, typedValue } from './typed-value.js';

export interface CallSink {
  /** A call begins, with the id that the model gave it if it did. */
  begin(name: string, id?: string): void;
  /** JSON text of the arguments of the call that began last. */
  arguments(json: string): void;
}

/** 'none' where there is no call, and nothing was handed on; 'cut' where the text ended within one. */
export type CallEnd = 'call' | 'none' | 'cut';

export interface CallScope {
  readonly form: CallForm;
  readonly tools: readonly CallableTool[];
  /** Whether only the name of a tool makes a call: no mark told of one. */
  readonly unmarked: boolean;
}

/** One call, in whichever style it begins: models leave the form that they were taught. */
export function* call(chars: Characters, sink: CallSink, scope: CallScope): Step<CallEnd> {
  const { form } = scope;
  const next = yield* chars.peek();
  if (next === '{') return yield* objectCall(chars, sink, scope);
  const elements = form.elements ?? FUNCTION;
  if (elements.head !== '' && (yield* chars.startsWith(elements.head))) {
    chars.take(elements.head.length);
    return yield* elementCall(chars, sink, scope, elements);
  }
  if (form.style === 'elements' && elements.head === '') {
    return yield* elementCall(chars, sink, scope, elements);
  }
  if (form.style === 'named') return yield* namedCall(chars, sink, scope);
  return yield* pythonCall(chars, sink, scope);
}

const FUNCTION: ElementForm = {
  head: '<function=',
  key: '<parameter=',
  keyEnd: '>\n',
  valueEnd: '\n</parameter>\n',
  end: '</function>',
};

const NAME_KEYS = new Set(['name', 'tool_name', 'function_name', 'function', 'tool']);
const ARGUMENT_KEYS = new Set(['arguments', 'parameters', 'args', 'tool_parameters', 'input']);
const ID_KEYS = new Set(['id', 'tool_call_id', 'call_id']);

/** What is known of a call from the members of its object. */
interface Members {
  name?: string;
  id?: string;
  /** Arguments that stand before the name. */
  early?: string;
  begun: boolean;
}

function* objectCall(chars: Characters, sink: CallSink, scope: CallScope): Step<CallEnd> {
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
): Step<'whole' | 'broken' | 'cut'> {
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
    // The bracket is missing, and the mark that closes the call is there.
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
      // What stands in a text without any mark is a call only if it has nothing else.
      if (scope.unmarked && !(NAME_KEYS.has(key) || ID_KEYS.has(key) || key === 'type')) return 'broken';
      const json = yield* wholeLiteral(chars, closes);
      if (json === undefined) return yield* unfinished(chars);
      const text = json.startsWith('"') ? (JSON.parse(json) as string) : undefined;
      if (NAME_KEYS.has(key) && text !== undefined) members.name ??= text;
      else if (ID_KEYS.has(key) && text !== undefined) members.id ??= text;
    }
  }
}

function* unfinished(chars: Characters): Step<'broken' | 'cut'> {
  return (yield* chars.peek()) === undefined ? 'cut' : 'broken';
}

/** The value of `arguments`: an object; or its JSON as a string; or null for none. */
function* readArguments(
  chars: Characters,
  sink: CallSink,
  scope: CallScope,
  members: Members,
): Step<'whole' | 'broken' | 'cut'> {
  const { closes } = scope.form;
  const isObject = (yield* chars.peek()) === '{';
  if (isObject && members.name !== undefined) {
    if (!isCallable(members.name, scope)) return 'broken';
    sink.begin(members.name, members.id);
    members.begun = true;
    const end = yield* literal(chars, (json) => sink.arguments(json), closes);
    // What is broken was closed: what can be told of the call was.
    return end === 'cut' ? 'cut' : 'whole';
  }
  const json = yield* wholeLiteral(chars, closes);
  if (json === undefined) return yield* unfinished(chars);
  members.early = isObject ? json : objectIn(json);
  return 'whole';
}

/** The object that arguments are which are written as something else. */
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

/** A name, then a mark, then the arguments as JSON; around the name marks and a number may stand, which are not part of it. */
function* namedCall(chars: Characters, sink: CallSink, scope: CallScope): Step<CallEnd> {
  const { form } = scope;
  // Behind the name Kimi's has the number of the call.
  const between = trimmed(form.between).split(ID_PLACE).at(-1)!.replace(/^:\d+/, '');
  let before = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || before.length > LONGEST_NAME) return 'none';
    if (next === '{' && between !== '' && !(yield* chars.startsWith(between))) {
      // Some leave out what stands between the name and its arguments.
      if (/^[\w.-]+\s*$/.test(before)) break;
    }
    if (yield* chars.startsWith(between === '' ? '{' : between)) {
      chars.take(between.length);
      break;
    }
    before += chars.take();
  }
  const { name, id } = namePart(before, form);
  if (name === undefined || !isCallable(name, scope)) return 'none';
  yield* chars.skipSpace();
  if ((yield* chars.peek()) !== '{') return 'none';
  sink.begin(name, id);
  const end = yield* literal(chars, (json) => sink.arguments(json), form.closes);
  if (end === 'cut') return 'cut';
  // The fence of a block of code, as DeepSeek's has it.
  yield* chars.skipSpace();
  if (yield* chars.startsWith('```')) chars.take(3);
  return 'call';
}

/** A longer text before the arguments is no name. */
const LONGEST_NAME = 300;

/** The name in what stands before the arguments, and the id where the form has one there. */
function namePart(text: string, { opens, between }: CallForm): { name?: string; id?: string } {
  const behind = opens.reduce((rest, mark) => rest.split(mark).at(-1)!, text);
  const idMark = trimmed(between).split(ID_PLACE).slice(0, -1)[0];
  const [own, id] = idMark === undefined ? [behind] : behind.split(idMark);
  // A bracket and a quote, `functions.` and the number of the call are what the template writes around it.
  const name = /^[\s[{"']*(?:functions\.)?([\w.-]+?)(?::\d+)?[\s"']*$/.exec(own!)?.[1];
  return { ...(name !== undefined && { name }), ...(id !== undefined && { id: id.trim() }) };
}

/** The arguments as elements; the mark before the name, if there is one, was taken. */
function* elementCall(
  chars: Characters,
  sink: CallSink,
  scope: CallScope,
  elements: ElementForm,
): Step<CallEnd> {
  const { form, tools } = scope;
  const name = yield* elementName(chars, form, elements);
  if (name === undefined || !isCallable(name, scope)) return 'none';
  const tool = tools.find((each) => each.name === name);
  const key = trimmed(elements.key);
  const end = trimmed(elements.end);
  if (scope.unmarked) {
    // An answer may speak of such a mark: only what goes on as a call is one.
    const goesOn = [key, '{', ...(end === '' ? [] : [end]), ...form.closes];
    if ((yield* chars.oneOf(goesOn, yield* chars.space(0))) === undefined) return 'none';
  }
  sink.begin(name);
  yield* chars.skipSpace();
  // Some write the arguments as JSON all the same.
  if ((yield* chars.peek()) === '{') {
    const ended = yield* literal(chars, (json) => sink.arguments(json), [end, ...form.closes]);
    if (ended === 'cut') return 'cut';
    yield* takeEnd(chars, end);
    return 'call';
  }
  const seen = new Set<string>();
  for (;;) {
    yield* chars.skipSpace();
    const next = yield* chars.peek();
    if (next === undefined) return 'cut';
    if (!(yield* chars.startsWith(key))) {
      sink.arguments(seen.size === 0 ? '{}' : '}');
      yield* takeEnd(chars, end);
      return 'call';
    }
    chars.take(key.length);
    const argument = yield* elementKey(chars, elements);
    if (argument === undefined) return 'cut';
    sink.arguments(`${seen.size === 0 ? '{' : ', '}${JSON.stringify(argument)}: `);
    seen.add(argument);
    const types = argumentTypes(tool, argument);
    const ended = yield* elementValue(chars, sink, form, elements, types);
    if (ended === 'cut') return 'cut';
  }
}

function* takeEnd(chars: Characters, end: string): Step<void> {
  if (end !== '' && (yield* chars.startsWith(end))) chars.take(end.length);
}

function* elementName(chars: Characters, form: CallForm, elements: ElementForm): Step<string | undefined> {
  let name = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || name.length > LONGEST_NAME) return undefined;
    if (elements.head === '') {
      // Behind the name comes an argument, or the end.
      if (/\s/.test(next) || (yield* chars.oneOf([trimmed(elements.key), ...form.closes])) !== undefined)
        break;
    } else if (next === '>' || next === '"' || next === '\n') {
      while ((yield* chars.peek()) === '"' || (yield* chars.peek()) === '>') chars.take();
      break;
    }
    name += chars.take();
  }
  name = name.replace(/^["']/, '').trim();
  return /^[\w.-]+$/.test(name) ? name : undefined;
}

/** The name of an argument, with what stands between it and its value. */
function* elementKey(chars: Characters, { keyEnd }: ElementForm): Step<string | undefined> {
  const parts = keyEnd.split(/\s+(?=<)/).map(trimmed);
  let key = '';
  if (parts[0]!.includes('<')) {
    // An element of its own: </arg_key><arg_value>.
    const marks = keyEnd.match(/<[^<>]*>/g)!;
    for (const [i, mark] of marks.entries()) {
      for (;;) {
        const next = yield* chars.peek();
        if (next === undefined) return undefined;
        if (yield* chars.startsWith(mark)) break;
        const taken = chars.take();
        if (i === 0) key += taken;
      }
      chars.take(mark.length);
    }
    return key.trim();
  }
  // The rest of an opening element: `>`, or `" string="true">`.
  let quoted = true;
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined) return undefined;
    chars.take();
    if (next === '>') return key.replace(/^["']/, '').trim();
    if (next === '"' && key !== '') quoted = false;
    if (quoted) key += next;
  }
}

/**
 * A value up to its closing element. Nothing in it is escaped, so a closing element counts only where another argument or the end of
 * the call follows it: before anything else it is part of the text.
 */
function* elementValue(
  chars: Characters,
  sink: CallSink,
  form: CallForm,
  elements: ElementForm,
  types: ReadonlySet<string> | undefined,
): Step<'whole' | 'cut'> {
  const streams = isStringAlone(types);
  let text = '';
  /** A line break that is text only if more of it follows. */
  let held = '';
  const put = (piece: string): void => {
    if (streams) sink.arguments(JSON.stringify(piece).slice(1, -1));
    else text += piece;
  };
  if (streams) sink.arguments('"');
  const lines = /\n/.test(elements.keyEnd);
  const plain = stopsOf([trimmed(elements.valueEnd)], '<\\r\\n');
  if (lines) {
    const crlf = yield* chars.startsWith('\r\n');
    if (crlf || (yield* chars.peek()) === '\n') chars.take(crlf ? 2 : 1);
  }
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined) {
      // What was held back belongs to a text that is cut.
      put(held);
      if (!streams) sink.arguments(types && !types.has('string') ? text : JSON.stringify(text).slice(0, -1));
      return 'cut';
    }
    if (next === '<' || next === elements.valueEnd.trim()[0]) {
      if (yield* endsValue(chars, form, elements)) break;
    }
    if (lines && next === '\n') {
      put(held);
      held = chars.take();
    } else if (lines && next === '\r' && (yield* chars.peek(1)) === '\n') {
      put(held);
      held = chars.take(2);
    } else {
      put(held + chars.take() + chars.takeUntil(plain));
      held = '';
    }
  }
  if (!lines) put(held);
  sink.arguments(streams ? '"' : typedValue(text, types));
  return 'whole';
}

/** Takes the end of a value, if it is here. */
function* endsValue(chars: Characters, form: CallForm, elements: ElementForm): Step<boolean> {
  const valueEnd = trimmed(elements.valueEnd);
  const end = trimmed(elements.end);
  const key = trimmed(elements.key);
  if (yield* chars.startsWith(valueEnd)) {
    const after = valueEnd.length + (yield* chars.space(valueEnd.length));
    const follows = [key, ...(end === '' ? [] : [end]), ...form.closes];
    if ((yield* chars.peek(after)) === undefined || (yield* chars.oneOf(follows, after)) !== undefined) {
      chars.take(valueEnd.length);
      return true;
    }
    return false;
  }
  // Some forget to close the value before they close the call, which then ends the text or goes on with another.
  if (end === '' || !(yield* chars.startsWith(end))) return false;
  let after = end.length + (yield* chars.space(end.length));
  const close = yield* chars.oneOf(form.closes, after);
  if (close === undefined) return false;
  after += close.length;
  after += yield* chars.space(after);
  return (yield* chars.peek(after)) === undefined || (yield* chars.oneOf(form.opens, after)) !== undefined;
}

/** `name(city='Paris', days=3)`. */
function* pythonCall(chars: Characters, sink: CallSink, scope: CallScope): Step<CallEnd> {
  const { form, tools } = scope;
  let name = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined) return 'none';
    if (!/[\w.-]/.test(next)) break;
    name += chars.take();
  }
  // Llama 3 calls the tools that it knows by itself so.
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

/** A name with `=` behind it, which are taken; undefined, with nothing taken, where there is none. */
function* keywordOf(chars: Characters): Step<{ name: string } | 'cut' | undefined> {
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

function isCallable(name: string, { tools, unmarked }: CallScope): boolean {
  return unmarked ? tools.some((tool) => tool.name === name) : name !== '';
}

/** A string; undefined where none comes. */
function* textValue(chars: Characters, marks: readonly string[]): Step<string | undefined> {
  const next = yield* chars.peek();
  if (next !== '"' && next !== "'") return undefined;
  const json = yield* wholeLiteral(chars, marks);
  return json === undefined ? undefined : (JSON.parse(json) as string);
}

/** What text may not be taken over at once: what a mark begins with, and other signs of a class of characters. */
export function stopsOf(marks: readonly string[], signs: string): RegExp {
  const first = [...new Set(marks.map((mark) => mark.codePointAt(0)!))];
  return new RegExp(`[${signs}${first.map((point) => `\\u{${point.toString(16)}}`).join('')}]`, 'u');
}

/** Takes white space and these signs, up to a mark. */
export function* skip(chars: Characters, signs: string, marks: readonly string[] = []): Step<void> {
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || !(/\s/.test(next) || signs.includes(next))) return;
    if ((yield* chars.oneOf(marks)) !== undefined) return;
    chars.take();
  }
}
