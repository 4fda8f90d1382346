/**
 * Calls of tools behind the mark that opens them, in each of the styles that models have. A call is handed on as soon as it certainly is
 * one: its name first, then its arguments as JSON text, in pieces.
 */
import type { CallEnd, CallScope, CallSink } from './call-scope.js';
import type { Characters, Parser } from './characters.js';
import { elementCall } from './element-call.js';
import type { ElementForm } from './form.js';
import { namedCall } from './named-call.js';
import { objectCall } from './object-call.js';
import { pythonCall } from './python-call.js';

/** One call, in whichever style it begins: models leave the form that they were taught. */
export function* call(chars: Characters, sink: CallSink, scope: CallScope): Parser<CallEnd> {
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
