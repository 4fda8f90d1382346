/**
 * Splits generated text into thoughts, content and tool calls while it streams. A part is emitted as soon as its kind is
 * certain, and the result does not depend on how the text was split into pieces.
 *
 * A call within a thought is a thought; an invalid call is content; white space around thoughts and calls is dropped with them.
 */
import { randomHex } from '../../platform/random-hex.js';
import { call } from './call.js';
import type { CallScope } from './call-scope.js';
import { Characters, type Parser, skip, stopsOf } from './characters.js';
import { type AnswerForm, type CallForm, type ThoughtForm, trimmed } from './form.js';
import type { CallableTool } from './typed-value.js';

/** A piece of an answer while it streams: content, thought, or (a part of) a tool call. */
export type AnswerPart =
  | { readonly kind: 'content'; readonly text: string }
  | { readonly kind: 'thought'; readonly text: string }
  /** A call starts; `index` counts calls from 0. */
  | { readonly kind: 'call'; readonly index: number; readonly id: string; readonly name: string }
  /** JSON text of a call's arguments, in pieces. */
  | { readonly kind: 'arguments'; readonly index: number; readonly text: string };

/** Options of the reader. */
export interface Reading {
  readonly form: AnswerForm;
  /** The tools that may be called; without tools there are no calls. */
  readonly tools?: readonly CallableTool[];
  /** The thought that the prompt opened, if any; the text starts within it. */
  readonly thinking?: ThoughtForm | undefined;
  /** Whether the answer ends where a second call begins. */
  readonly single?: boolean;
}

/** The most marks without a call that are read again after the end of the text; beyond that the rest is content. */
const MOST_FAILURES = 16;

/** Cuts an answer's text, as it streams, into content, thoughts and tool calls. */
export class AnswerReader {
  private readonly chars = new Characters();
  private readonly parser: Parser<void>;
  private parts: AnswerPart[] = [];
  private calls = 0;
  /** White space that is content if more content follows. */
  private space = '';
  /** Whether a thought or a call precedes that white space, with no content since. */
  private besideMarkup = false;
  private hasContent = false;
  private hasThought = false;
  /** Failed attempts to read a call after the end of the text, each of which may have scanned the whole rest. */
  private failures = 0;
  private over = false;

  constructor(private readonly reading: Reading) {
    this.parser = this.answer();
  }

  /** Adds the next piece of the text; returns the parts that are certain. */
  push(piece: string): AnswerPart[] {
    this.chars.add(piece);
    this.parser.next();
    return this.taken();
  }

  /** Returns the text that was held back, at the end of the answer. */
  end(): AnswerPart[] {
    this.chars.end();
    this.parser.next();
    return this.taken();
  }

  /** Whether a second call has begun where there is a single one: no parts follow. */
  get isOver(): boolean {
    return this.over;
  }

  private taken(): AnswerPart[] {
    const { parts } = this;
    this.parts = [];
    return parts;
  }

  private *answer(): Parser<void> {
    const { chars, reading } = this;
    const { thinking, form } = reading;
    if (thinking) {
      yield* chars.skipSpace();
      // Some models open it again.
      if (yield* chars.startsWith(thinking.open)) chars.take(thinking.open.length);
      yield* this.thought(thinking);
    }
    const marks = reading.tools && form.calls ? marksOf(form.calls) : [];
    const stops = stopsOf(marks, '\\s');
    for (;;) {
      const next = yield* chars.peek();
      if (next === undefined) break;
      if (/\s/.test(next)) {
        this.space += chars.take();
        // Where no call can follow, white space within content is content.
        if (marks.length === 0 && !this.isEdge) this.content('');
      } else if (this.isEdge && (yield* this.thoughtAtEdge())) this.besideMarkup = true;
      else if (yield* this.calling(marks)) this.besideMarkup = true;
      else this.content(chars.take() + chars.takeUntil(stops));
    }
    // White space between a call and the end of the answer is dropped.
    if (!this.besideMarkup) this.say('content', this.space);
  }

  /** Whether there is only white space since the start, or since a thought or a call. */
  private get isEdge(): boolean {
    return this.besideMarkup || !this.hasContent;
  }

  private *thoughtAtEdge(): Parser<boolean> {
    const { chars, reading } = this;
    for (const thought of reading.form.thoughts) {
      if (yield* chars.startsWith(thought.open)) {
        chars.take(thought.open.length);
        yield* this.thought(thought);
        return true;
      }
      // A thought closed twice or never opened: some models start like this when thinking is off.
      if (yield* chars.startsWith(thought.close)) {
        chars.take(thought.close.length);
        return true;
      }
    }
    return false;
  }

  /** Reads a thought up to its closing mark, which may be missing. */
  private *thought({ close }: ThoughtForm): Parser<void> {
    const { chars } = this;
    this.besideMarkup = true;
    const stops = stopsOf([close], '\\s');
    yield* chars.skipSpace();
    let space = this.hasThought ? '\n\n' : '';
    for (;;) {
      const next = yield* chars.peek();
      if (next === undefined) return;
      if (/\s/.test(next)) space += chars.take();
      else if (yield* chars.startsWith(close)) {
        chars.take(close.length);
        return;
      } else {
        this.say('thought', space + chars.take() + chars.takeUntil(stops));
        this.hasThought = true;
        space = '';
      }
    }
  }

  /** Reads calls, if they start here. */
  private *calling(marks: readonly string[]): Parser<boolean> {
    const { chars, reading } = this;
    const { tools } = reading;
    const form = reading.form.calls;
    if (!tools || !form) return false;
    if (this.failures > MOST_FAILURES) return false;
    const mark = yield* chars.oneOf(marks);
    const isClosing = mark !== undefined && form.closes.includes(mark);
    if (isClosing) {
      // The mark that closes all calls follows the one that closes the last call.
      if (this.calls === 0 || !this.besideMarkup) return false;
      chars.take(mark.length);
      return true;
    }
    const isMarked = mark !== undefined && (form.opens.includes(mark) || form.marks?.includes(mark) === true);
    if (mark === undefined && !(form.opens.length === 0 && this.isEdge)) return false;
    chars.keep();
    if (isMarked) chars.take(mark.length);
    if (yield* this.section({ form, tools, unmarked: !isMarked })) return true;
    chars.back();
    if (chars.isEnded) this.failures++;
    return false;
  }

  /** Reads one or several calls after a mark, and their closing mark; false if there is no call. */
  private *section(scope: CallScope): Parser<boolean> {
    const { chars } = this;
    const { opens, closes } = scope.form;
    let any = false;
    let marks = 0;
    for (;;) {
      yield* skip(chars, any ? ',;[]})' : '[', opens);
      const close = any ? yield* chars.oneOf(closes) : undefined;
      if (close !== undefined) {
        chars.take(close.length);
        chars.letGo();
        return true;
      }
      const open = yield* chars.oneOf(opens);
      if (open !== undefined) {
        // There is one mark for all calls and possibly one for each; further marks do not start a call.
        if (++marks > opens.length) return any;
        chars.take(open.length);
      } else {
        if (any) chars.keep();
        const end = yield* call(chars, this.sink, scope);
        if (end === 'none') {
          // The text after the calls is content.
          if (any) chars.back();
          return any;
        }
        chars.letGo();
        marks = 0;
        any = true;
        if (end === 'cut') {
          chars.takeUntil(/(?!)/);
          return true;
        }
      }
    }
  }

  private readonly sink = {
    begin: (name: string, id?: string): void => {
      this.chars.letGo();
      const index = this.calls++;
      this.over ||= this.reading.single === true && index > 0;
      if (this.over) return;
      this.parts.push({
        kind: 'call',
        index,
        id: id ?? newCallId(this.reading.form.history.ids === 'short'),
        name,
      });
    },
    arguments: (text: string): void => this.say('arguments', text),
  };

  private content(text: string): void {
    // White space after a thought belongs to it; between calls and content it is kept between the texts before and after.
    const space = this.hasContent || !this.besideMarkup ? this.space : '';
    this.say('content', space + text);
    this.space = '';
    this.hasContent = true;
    this.besideMarkup = false;
  }

  private say(kind: 'content' | 'thought' | 'arguments', text: string): void {
    if (text === '' || this.over) return;
    const last = this.parts.at(-1);
    const index = this.calls - 1;
    if (last?.kind === kind) {
      this.parts[this.parts.length - 1] = { ...last, text: last.text + text };
    } else this.parts.push(kind === 'arguments' ? { kind, index, text } : { kind, text });
  }
}

/** All marks that calls have, the longer of two that begin alike first. */
function marksOf({ opens, marks: optional = [], closes, elements }: CallForm): string[] {
  const head = elements ? trimmed(elements.head) : '';
  const marks = new Set([...opens, ...optional, ...closes, ...(head === '' ? [] : [head])]);
  return [...marks].sort((a, b) => b.length - a.length);
}

const ID_SIGNS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

function newCallId(short: boolean): string {
  if (!short) return `call_${randomHex(12)}`;
  return Array.from(
    crypto.getRandomValues(new Uint8Array(9)),
    (byte) => ID_SIGNS[byte % ID_SIGNS.length],
  ).join('');
}
