/** The platform of a browser's tab, in a worker: files are in the origin private file system. */
export type {
  Digest,
  FileStats,
  FolderEntry,
  OpenedFile,
  Thread,
  WriteBytes,
} from '../platform.js';
export {
  appendText,
  openFile,
  readBytes,
  readFolder,
  readText,
  statsOf,
} from './files.js';
export { basename, dirname, join } from './paths.js';
export {
  availableThreads,
  enableRelaxedSimd,
  mostMemory,
  nextTurn,
  sha256,
  startThread,
} from './process.js';

import { makeFolder } from './writing.js';

export {
  inWords,
  makeFolder,
  recoverFolder,
  streamFileAtomic,
  writeFileAtomic,
  writeFolderAtomic,
} from './writing.js';

/** Creates the folder and locks nothing: in a tab, the writer of a run's folder already holds a Web Lock of its name (`browser/training.ts`). */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  await makeFolder(folder);
  return async () => undefined;
}

/** See `Platform.heddleCommand`: the command as a user of the package would call it. */
export function heddleCommand(): string {
  return 'npx heddle';
}
