/** What `/healthz` says, of engines in every condition. */
import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { Caller } from '../engine/calls.js';
import type { EngineCalls } from '../engine/protocol.js';
import { EngineEndedError } from '../errors.js';
import { healthOf } from './health.js';

/** An engine that says so, after `asked`, or nothing. */
function engine(answers: boolean) {
  const { port1, port2 } = new MessageChannel();
  if (answers) port2.on('message', ({ id }) => port2.postMessage({ id, result: {} }));
  const calls = new Caller<EngineCalls>(port1);
  return { calls, close: () => port1.close() };
}

test.each([
  ['ok', true, 'ok', 'ok'],
  ['unresponsive', false, 'ok', 'unresponsive'],
  ['draining', false, 'draining', 'draining'],
  ['failed', true, 'failed', 'failed'],
] as const)('%s', async (_, answers, status, expected) => {
  const { calls, close } = engine(answers);
  expect(await healthOf({ engine: calls, status: () => status }, answers ? 60_000 : 20)).toBe(expected);
  close();
});

test('of an engine that has ended, without its end having been heard of', async () => {
  const { calls, close } = engine(false);
  calls.end(new EngineEndedError('it has ended'));
  expect(await healthOf({ engine: calls, status: () => 'ok' })).toBe('failed');
  close();
});
