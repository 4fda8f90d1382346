/** Models from a hub: Hugging Face's, or any that speaks its protocol. */
export type { Patience } from './connection.js';
export { type Hub, hubFromEnvironment } from './hub.js';
export { type PullEvent, type PullRequest, type PullResult, pull } from './pull.js';
