/** What other rooms may know of XLA and the CUDA libraries: where they lie, and that koffi, which calls them, is there. */
export { ensureKoffi } from './xla/pjrt/koffi.js';
export { pluginIn, setupFolder } from './xla/plugin.js';
