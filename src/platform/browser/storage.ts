/** What only a browser has: volumes, and files that come from elsewhere or go there. */
export { blobOf } from './files.js';
export { SystemError, type Writer } from './volume.js';
export { keepsFiles, MEMORY, memory, placeOf } from './volumes.js';
export { remove } from './writing.js';
