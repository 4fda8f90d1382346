/** The thread with the connection to the store: it does what the callbacks' threads ask for. */
import { setTimeout } from 'node:timers/promises';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { connectValkey } from '../../../../platform/node/valkey.js';
import { ERROR_CODES, type ErrorCode } from '../abi.js';
import type { Answer, Request, StoreData } from './requests.js';

/** Milliseconds between two looks for a value that is not there yet. */
const PAUSE = 10;
/** Seconds after which keys are gone: no run looks for them that late. */
const LIFETIME = 86_400;

const { place, prefix, ports } = workerData as StoreData;
const client = connectValkey(place, { command: 60_000, retries: null });
for (const port of ports) port.on('message', (request: Request) => void serve(port, request));
await client.ping();
parentPort!.postMessage('ready');

async function serve(port: MessagePort, request: Request): Promise<void> {
  const answer = await answerTo(request).catch((error: Error) => failed('UNAVAILABLE', error.message));
  port.postMessage(answer);
  const answered = new Int32Array(request.answered);
  Atomics.store(answered, 0, 1);
  Atomics.notify(answered, 0);
}

async function answerTo({ key, value, patience }: Request): Promise<Answer> {
  const name = Buffer.concat([Buffer.from(prefix), key]);
  if (value) {
    await client.set(name, Buffer.from(value), 'EX', LIFETIME);
    return {};
  }
  const until = performance.now() + patience;
  for (;;) {
    const found = await client.getBuffer(name);
    if (found) return { value: found };
    if (performance.now() >= until) break;
    await setTimeout(PAUSE);
  }
  const what = Buffer.from(key).toString();
  return patience > 0
    ? failed('DEADLINE_EXCEEDED', `no process has stored '${what}' within ${patience / 1000} s`)
    : failed('NOT_FOUND', `'${what}' is not stored`);
}

function failed(code: ErrorCode, message: string): Answer {
  return { error: { code: ERROR_CODES.indexOf(code), message } };
}
