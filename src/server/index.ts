/** Serving models over HTTP, as OpenAI's interface has it, with states as a thing to keep. */
export { type AppOptions, createApp, type HeddleApp } from './app.js';
export type { EngineOptions } from './engine/engine.js';
export { addKey } from './keys.js';
export { type RunningServer, type ServerOptions, startServer } from './server.js';
