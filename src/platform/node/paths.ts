/** Paths. Their types are written out, since those of Node.js are missing where a page is compiled. */
import path from 'node:path';
import { expectText } from '../../arguments.js';

/** As in `node:path`. Throws `DataError` for a part that is no text. */
export function join(...parts: string[]): string {
  for (const part of parts) expectText(part, 'the path is');
  return path.join(...parts);
}

/** As in `node:path`. Throws `DataError` for what is no text. */
export function dirname(of: string): string {
  expectText(of, 'the path is');
  return path.dirname(of);
}

/** As in `node:path`. */
export const basename: (of: string) => string = path.basename;
