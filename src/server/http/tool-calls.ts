/** Calls of tools in what a model writes: JSON with a name and arguments, between `<tool_call>` and `</tool_call>`. */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

const Called = z.looseObject({ name: z.string(), arguments: z.record(z.string(), z.unknown()).default({}) });

export interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: string };
}

export type Said = { readonly content: string } | { readonly call: ToolCall };

/** Parts what a model writes into text and calls, as it comes. What only looks like a call is text. */
export class ToolCallReader {
  private held = '';

  push(text: string): Said[] {
    this.held += text;
    const said: Said[] = [];
    for (;;) {
      const open = this.held.indexOf(OPEN);
      if (open < 0) {
        const safe = this.held.length - beginningOf(OPEN, this.held);
        said.push({ content: this.held.slice(0, safe) });
        this.held = this.held.slice(safe);
        break;
      }
      const close = this.held.indexOf(CLOSE, open);
      said.push({ content: this.held.slice(0, open) });
      this.held = this.held.slice(open);
      if (close < 0) break;
      const whole = this.held.slice(0, close - open + CLOSE.length);
      said.push(callOf(whole.slice(OPEN.length, -CLOSE.length)) ?? { content: whole });
      this.held = this.held.slice(whole.length);
    }
    return said.filter((part) => 'call' in part || part.content !== '');
  }

  /** What was held back. A call that was not closed counts where it is whole: some models end there. */
  end(): Said[] {
    const rest = this.held;
    this.held = '';
    if (rest === '') return [];
    const call = rest.startsWith(OPEN) ? callOf(rest.slice(OPEN.length)) : undefined;
    return [call ?? { content: rest }];
  }
}

function callOf(json: string): { call: ToolCall } | undefined {
  try {
    const { name, arguments: given } = Called.parse(JSON.parse(json));
    const id = `call_${randomBytes(12).toString('hex')}`;
    return { call: { id, type: 'function', function: { name, arguments: JSON.stringify(given) } } };
  } catch {
    return undefined;
  }
}

/** The length of the longest end of a text that `word` begins with. */
function beginningOf(word: string, text: string): number {
  for (let length = Math.min(word.length - 1, text.length); length > 0; length--) {
    if (word.startsWith(text.slice(-length))) return length;
  }
  return 0;
}
