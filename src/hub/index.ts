/** Downloads: models from a hub (Hugging Face's, or any that speaks its protocol), and the CUDA libraries. */
export { indexSource } from './cuda/package-index.js';
export {
  type CudaPlan,
  type CudaSetup,
  type CudaSetupEvent,
  type CudaSetupResult,
  setupCuda,
} from './cuda/setup.js';
export type { TransferEvent } from './download.js';
export { type Hub, hubFromEnvironment } from './hub.js';
export type { Patience } from './patience.js';
export { type PullEvent, type PullRequest, type PullResult, pull } from './pull.js';
