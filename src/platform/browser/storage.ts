/** Exports for browsers only: volumes, and files as Blobs. */
export { blobOf } from './files.js';
export { SystemError, type Writer } from './volume.js';
export { keepsFiles, MEMORY, memory, placeOf } from './volumes.js';
export { remove } from './writing.js';
