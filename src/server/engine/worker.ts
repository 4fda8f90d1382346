/** The engine's thread: loads the models, reports success or failure, and answers calls. */

import type { MessagePort } from 'node:worker_threads';
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf } from '../errors.js';
import { answerCalls } from './calls.js';
import { Engine } from './engine.js';
import type { EngineCalls } from './protocol.js';

const { port, options } = workerData as { port: MessagePort; options: Parameters<typeof Engine.open>[0] };
try {
  const notice = (text: string): void => void process.stderr.write(`${text}\n`);
  answerCalls<EngineCalls>(port, await Engine.open({ ...options, load: { ...options.load, notice } }));
  parentPort!.postMessage('ready');
} catch (error) {
  parentPort!.postMessage(failureOf(error));
  port.close();
}
