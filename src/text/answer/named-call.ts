/** Calls as a name, a mark, and the arguments in JSON. */
import { type CallEnd, type CallScope, type CallSink, isCallable, LONGEST_NAME } from './call-scope.js';
import type { Characters, Parser } from './characters.js';
import { type CallForm, ID_PLACE, trimmed } from './form.js';
import { literal } from './literal.js';

/** Reads a name, a mark, and the arguments as JSON; marks and a number around the name are not part of it. */
export function* namedCall(chars: Characters, sink: CallSink, scope: CallScope): Parser<CallEnd> {
  const { form } = scope;
  // Kimi's form has the number of the call after the name.
  const between = trimmed(form.between).split(ID_PLACE).at(-1)!.replace(/^:\d+/, '');
  let before = '';
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || before.length > LONGEST_NAME) return 'none';
    if (next === '{' && between !== '' && !(yield* chars.startsWith(between))) {
      // Some models omit the separator between the name and the arguments.
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
  // The fence of a code block, as in DeepSeek's form.
  yield* chars.skipSpace();
  if (yield* chars.startsWith('```')) chars.take(3);
  return 'call';
}

/** The name in the text before the arguments, and the id if the form has one there. */
function namePart(text: string, { opens, between }: CallForm): { name?: string; id?: string } {
  const behind = opens.reduce((rest, mark) => rest.split(mark).at(-1)!, text);
  const idMark = trimmed(between).split(ID_PLACE).slice(0, -1)[0];
  const [own, id] = idMark === undefined ? [behind] : behind.split(idMark);
  // The template renders a bracket and a quote, `functions.` and the number of the call around it.
  const name = /^[\s[{"']*(?:functions\.)?([\w.-]+?)(?::\d+)?[\s"']*$/.exec(own!)?.[1];
  return { ...(name !== undefined && { name }), ...(id !== undefined && { id: id.trim() }) };
}
