/** Calls whose arguments are elements: `<function=name><parameter=key>value</parameter></function>`, and other marks. */
import { type CallEnd, type CallScope, type CallSink, isCallable, LONGEST_NAME } from './call-scope.js';
import { type Characters, type Parser, stopsOf } from './characters.js';
import { type CallForm, type ElementForm, trimmed } from './form.js';
import { literal } from './literal.js';
import { argumentTypes, isStringAlone, typedValue } from './typed-value.js';

/** Reads a call with arguments as elements; a mark before the name has been consumed. */
export function* elementCall(
  chars: Characters,
  sink: CallSink,
  scope: CallScope,
  elements: ElementForm,
): Parser<CallEnd> {
  const { form, tools } = scope;
  const name = yield* elementName(chars, form, elements);
  if (name === undefined || !isCallable(name, scope)) return 'none';
  const tool = tools.find((each) => each.name === name);
  const key = trimmed(elements.key);
  const end = trimmed(elements.end);
  if (scope.unmarked) {
    // An answer may mention such a mark; it is a call only if it continues as one.
    const goesOn = [key, '{', ...(end === '' ? [] : [end]), ...form.closes];
    if ((yield* chars.oneOf(goesOn, yield* chars.space(0))) === undefined) return 'none';
  }
  sink.begin(name);
  yield* chars.skipSpace();
  // Some models write the arguments as JSON anyway.
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

function* takeEnd(chars: Characters, end: string): Parser<void> {
  if (end !== '' && (yield* chars.startsWith(end))) chars.take(end.length);
}

function* elementName(chars: Characters, form: CallForm, elements: ElementForm): Parser<string | undefined> {
  let name = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || name.length > LONGEST_NAME) return undefined;
    if (elements.head === '') {
      // After the name comes an argument or the end.
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

/** Reads the name of an argument and the separator before its value. */
function* elementKey(chars: Characters, { keyEnd }: ElementForm): Parser<string | undefined> {
  const parts = keyEnd.split(/\s+(?=<)/).map(trimmed);
  let key = '';
  if (parts[0]!.includes('<')) {
    // The name is in its own element: </arg_key><arg_value>.
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
 * Reads a value up to its closing element. Values are not escaped, so a closing element counts only if another argument or the end of
 * the call follows it; otherwise it is part of the text.
 */
function* elementValue(
  chars: Characters,
  sink: CallSink,
  form: CallForm,
  elements: ElementForm,
  types: ReadonlySet<string> | undefined,
): Parser<'whole' | 'cut'> {
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
      // In a truncated text, the held-back text belongs to the value.
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

/** Consumes the end of a value, if it is next. */
function* endsValue(chars: Characters, form: CallForm, elements: ElementForm): Parser<boolean> {
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
  // Some models close the call without closing the value; then the text ends or another call follows.
  if (end === '' || !(yield* chars.startsWith(end))) return false;
  let after = end.length + (yield* chars.space(end.length));
  const close = yield* chars.oneOf(form.closes, after);
  if (close === undefined) return false;
  after += close.length;
  after += yield* chars.space(after);
  return (yield* chars.peek(after)) === undefined || (yield* chars.oneOf(form.opens, after)) !== undefined;
}
