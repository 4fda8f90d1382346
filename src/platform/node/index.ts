/** The platform Node.js. */
export type {
  Digest,
  FileStats,
  FolderEntry,
  OpenedFile,
  Thread,
  WriteBytes,
} from '../platform.js';
export {
  inWords,
  recoverFolder,
  streamFileAtomic,
  writeFileAtomic,
  writeFolderAtomic,
} from './atomic.js';
export { heddleCommand } from './command-line.js';
export { appendText, fileVersion, openFile, readBytes, readFolder, readText, statsOf } from './files.js';
export { isAlive, lockFolder } from './lock.js';
export { makeFolder } from './make-folder.js';
export { basename, dirname, join } from './paths.js';
export {
  availableThreads,
  enableRelaxedSimd,
  mostMemory,
  nextTurn,
  sha256,
  startThread,
} from './process.js';
