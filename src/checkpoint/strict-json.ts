/**
 * JSON from outside, read more strictly than `JSON.parse` reads it.
 *
 * `JSON.parse` keeps the last of two equal keys in silence, so that two readers can find two different things in one file.
 * And it builds whatever it is told to: a few bytes of brackets cost it many bytes of objects, and minutes when there are
 * tens of millions. So the text is first scanned for its structure, which builds nothing but the set of keys.
 */
import { quote, visible } from './wording.js';

/** How many values one text may hold: enough for the header of 250,000 tensors, or for an index of two million. */
const MOST_VALUES = 2_000_000;

/**
 * Parses JSON in UTF-8, without a byte order mark.
 *
 * @param deepest how many objects and lists may stand inside one another
 * @throws SyntaxError that completes "... cannot be used:"; nothing else
 */
export function parseStrictJson(bytes: Uint8Array, deepest: number): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    checkStructure(text, deepest);
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof RefusedStructure) throw error;
    throw new SyntaxError(`it is not JSON in UTF-8 (${visible((error as Error).message)})`);
  }
}

/** Whether a parsed value is an object, and neither a list nor null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class RefusedStructure extends SyntaxError {}

/** Finds equal keys, deep nesting and too many values in a text that need not be valid JSON. */
function checkStructure(text: string, deepest: number): void {
  // The keys of the open objects; a list has none.
  const open: (Set<string> | undefined)[] = [];
  let values = 0;
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{' || character === '[') {
      if (open.length === deepest) throw new RefusedStructure(`it is nested more than ${deepest} deep`);
      expectsKey = character === '{';
      open.push(expectsKey ? new Set() : undefined);
      values++;
    } else if (character === '}' || character === ']') {
      open.pop();
      expectsKey = false;
    } else if (character === ',') {
      expectsKey = open.at(-1) !== undefined;
      values++;
    } else if (character === '"') {
      const end = endOfString(text, i);
      if (expectsKey) {
        const key = JSON.parse(text.slice(i, end + 1)) as string;
        if (open.at(-1)!.has(key)) throw new RefusedStructure(`the key ${quote(key)} stands in it twice`);
        open.at(-1)!.add(key);
        expectsKey = false;
      }
      i = end;
    }
    if (values > MOST_VALUES) throw new RefusedStructure(`it holds more than ${MOST_VALUES} values`);
  }
}

/** Where the string that begins at `start` has its closing quote. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '"') return i;
    if (text[i] === '\\') i++;
  }
  return text.length;
}
