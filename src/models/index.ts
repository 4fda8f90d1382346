/** What a model is. */
export * from './config.js';
export * from './folder.js';
export * from './hybrid.js';
export * from './pattern.js';
export * from './presets.js';
