/**
 * Tool calls after their opening mark, in each style of models. A call is emitted as soon as it is certain to be
 * one: its name first, then its arguments as JSON text, in pieces.
 */
import type { CallEnd, CallScope, CallSink } from './call-scope.js';
import type { Characters, Parser } from './characters.js';
import { elementCall } from './element-call.js';
import type { ElementForm } from './form.js';
import { namedCall } from './named-call.js';
import { objectCall } from './object-call.js';
import { pythonCall } from './python-call.js';

/** Reads one call in whichever style it starts, since models sometimes deviate from their form. */
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
