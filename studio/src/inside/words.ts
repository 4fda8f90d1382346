import type { Token } from '../../../src/inspect/trace.js';

/** 0.034 -> '3.4 %' */
export function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))} %`;
}

/** A token alone, with its white space made visible. */
export function wordOf({ text }: Pick<Token, 'text'>): string {
  return text.replace(/^ /, '·').replaceAll('\n', '⏎').replaceAll('\t', '⇥') || '∅';
}
