/** What other folders may use of the XLA device: the paths of XLA and the CUDA libraries, and koffi, which calls them. */
export { ensureKoffi } from './xla/pjrt/koffi.js';
export { pluginIn, setupFolder } from './xla/plugin.js';
