/** Pulls from a test hub, and interrupts them. */
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect } from 'vitest';
import { HubError, StorageError } from '../../errors.js';
import { type PullEvent, type PullRequest, type PullResult, pull } from '../index.js';
import { HubServer, type Seen, sha256 } from './hub-server.js';

/** Few retries with hardly any wait. */
export const QUICK = { retries: 3, backoff: 0.001, silence: 60 };

/** A hub with a model, and an empty folder with the path that the model gets in it. */
export interface HubToPull {
  readonly server: HubServer;
  readonly here: string;
  readonly folder: string;
}

/** Makes a hub before each test and gives it to `begin`; after the test it is stopped and its folder removed. */
export function eachWithHub(begin: (hub: HubToPull) => void): void {
  let hub: HubToPull;
  beforeEach(async () => {
    const here = mkdtempSync(join(tmpdir(), 'heddle-pull-'));
    hub = { server: await HubServer.start(), here, folder: join(here, 'models', 'loom') };
    hub.server.putModel();
    begin(hub);
  });
  afterEach(async () => {
    await hub.server.stop();
    rmSync(hub.here, { recursive: true, force: true });
  });
}

/** Expects that a pull is refused with an error of a class. */
async function expectRefusal(
  pulling: Promise<unknown>,
  kind: new (message: string) => Error,
  message: RegExp,
): Promise<void> {
  await expect(pulling).rejects.toThrow(message);
  await expect(pulling).rejects.toBeInstanceOf(kind);
}

/** A token that no message, event or file may repeat. */
export const TOKEN = 'hf_secretsecretsecret';

/** Pulls from the hub of each test that are refused, and a request with `TOKEN`. */
export function refusalsOf(hub: () => HubToPull) {
  const pulled = (change?: Partial<PullRequest>): Promise<Pulled> =>
    pullFrom(hub().server, hub().folder, change);
  return {
    expectHubError: (message: RegExp, change?: Partial<PullRequest>): Promise<void> =>
      expectRefusal(pulled(change), HubError, message),
    expectStorageError: (message: RegExp): Promise<void> => expectRefusal(pulled(), StorageError, message),
    withToken: (): Partial<PullRequest> => ({ hub: { endpoint: hub().server.endpoint, token: TOKEN } }),
  };
}

/** What a pull returned, and all events that it reported. */
export interface Pulled extends PullResult {
  readonly events: PullEvent[];
}

/** Pulls the server's model into `folder`. */
export async function pullFrom(
  server: HubServer,
  folder: string,
  change: Partial<PullRequest> = {},
): Promise<Pulled> {
  const events: PullEvent[] = [];
  const result = await pull({
    repo: server.repo,
    revision: 'main',
    folder,
    hub: { endpoint: server.endpoint },
    patience: QUICK,
    onEvent: (event) => events.push(event),
    ...change,
  });
  return { ...result, events };
}

/** The names in a pulled folder, without the pull's own hidden folder. */
export function namesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name !== '.heddle-pull')
    .sort();
}

/** The path of the part file of a large file. */
export function partPath(server: HubServer, folder: string, file: string): string {
  return join(folder, '.heddle-pull', `${sha256(server.files.get(file)!.bytes)}.part`);
}

/**
 * Makes the CDN stop once in the middle of a file, after the client has stored its first `bytes`, and then call `next`, which by
 * default cuts the connection.
 */
export function stopAfter(
  server: HubServer,
  folder: string,
  file: string,
  bytes: number,
  next: (response: ServerResponse) => void = (response) => response.destroy(),
): void {
  const part = partPath(server, folder, file);
  const content = server.files.get(file)!.bytes;
  let stopped = false;
  server.onRequest = (seen: Seen, response) => {
    if (stopped || seen.host !== 'cdn' || seen.file !== file) return false;
    stopped = true;
    const begin = server.begin(response, content, seen.range);
    response.write(content.subarray(begin, bytes));
    void whenStored(part, bytes).then(() => next(response));
    return true;
  };
}

/** Waits until a part file has `bytes` bytes. */
export async function whenStored(part: string, bytes: number): Promise<void> {
  while ((statSync(part, { throwIfNoEntry: false })?.size ?? 0) < bytes) await sleep(2);
}
