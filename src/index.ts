/** Heddle: hybrid state-space + attention models. */
export * from './engine/index.js';
export * from './errors.js';
export * from './generate/index.js';
export * from './hub/index.js';
export * from './inspect/index.js';
export * from './models/index.js';
export * from './signals/index.js';
export * from './tasks/index.js';
export * from './text/index.js';
export * from './train/index.js';
