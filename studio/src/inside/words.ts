import type { Token } from '../../../src/inspect/trace.js';

/** A token alone, with its white space made visible. */
export function wordOf({ text }: Pick<Token, 'text'>): string {
  return text.replace(/^ /, '·').replaceAll('\n', '⏎').replaceAll('\t', '⇥') || '∅';
}
