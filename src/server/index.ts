/** Serves models over HTTP with OpenAI's API and saved states. */
export { type AppOptions, createApp, type HeddleApp } from './app.js';
export type { EngineOptions } from './engine/engine.js';
export { addKey } from './keys.js';
export { type RunningServer, type ServerOptions, startServer } from './server.js';
