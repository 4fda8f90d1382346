/** What `#platform`, `#devices` and `#locate` stand for in the sources, for bundlers and tests; package.json says it of what is built. */
import { fileURLToPath } from 'node:url';

const source = (path) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));

export const NODE = {
  '#platform': source('platform/node/index.ts'),
  '#devices': source('engine/devices.ts'),
  '#locate': source('models/locate.ts'),
};

export const BROWSER = {
  '#platform': source('platform/browser/index.ts'),
  '#devices': source('engine/tab-devices.ts'),
  '#locate': source('models/tab-locate.ts'),
};
