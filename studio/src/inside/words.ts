import type { Token } from '../../../src/inspect/trace.js';

/** 0.034 -> '3.4 %' */
export function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))} %`;
}

/** Invisible characters except the space. */
const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}\u00a0]/gu;

/** A token alone, with its white space made visible. */
export function wordOf({ text }: Pick<Token, 'text'>): string {
  const marked = text.replace(/^ /, '·').replaceAll('\n', '⏎').replaceAll('\t', '⇥');
  const named = (character: string): string => `‹${character.codePointAt(0)!.toString(16)}›`;
  return marked.replace(INVISIBLE, named) || '∅';
}
