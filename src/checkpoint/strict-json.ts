/**
 * A JSON parser for untrusted files, stricter than `JSON.parse`.
 *
 * `JSON.parse` silently keeps the last of two equal keys, so two readers can find different values in one file. It also has no
 * limit: a few bytes of brackets cost many bytes of objects, and tens of millions of them take minutes. Therefore the text is first
 * scanned for its structure, which allocates only the set of keys.
 */
import { quote, visible } from './wording.js';

/** The most values that one text may contain: enough for the header of 250,000 tensors, or an index of two million. */
const MOST_VALUES = 2_000_000;

/**
 * Parses JSON in UTF-8, without a byte order mark.
 *
 * @param deepest the deepest nesting of objects and lists
 * @throws only SyntaxError, whose message completes "... cannot be used:"
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

/** Whether a parsed value is an object, not a list or null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class RefusedStructure extends SyntaxError {}

/** Throws for equal keys, deep nesting or too many values, in a text that may be invalid JSON. */
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
        if (open.at(-1)!.has(key)) throw new RefusedStructure(`the key ${quote(key)} occurs twice`);
        open.at(-1)!.add(key);
        expectsKey = false;
      }
      i = end;
    }
    if (values > MOST_VALUES) throw new RefusedStructure(`it has more than ${MOST_VALUES} values`);
  }
}

/** The index of the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '"') return i;
    if (text[i] === '\\') i++;
  }
  return text.length;
}
