/** How models are stored: safetensors, and files and folders that are written whole or not at all. */
export { inWords, recoverFolder, streamFileAtomic, writeFileAtomic, writeFolderAtomic } from './atomic.js';
export * from './safetensors.js';
export { openWeights, type WeightFiles, type WeightInfo } from './weight-files.js';
