/** Paths. Their types are written out, since those of Node.js are missing where a page is compiled. */
import path from 'node:path';

/** As in `node:path`. */
export const join: (...parts: string[]) => string = path.join;
/** As in `node:path`. */
export const dirname: (of: string) => string = path.dirname;
/** As in `node:path`. */
export const basename: (of: string) => string = path.basename;
