/** `heddle serve`, run as a person runs it, and a tiny model for it to serve. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import { hybridModel, type ModelConfigInput, writeModel } from '../../src/models/index.js';
import { tinyConfig, tinyWeights } from '../../src/models/testing/tiny.js';
import type { State as StateAnswer } from '../../src/server/http/schemas.js';
import { tinyTokenizer } from '../../src/text/testing/tiny.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** A saved state, as the server tells of it. */
export type State = z.infer<typeof StateAnswer>;

export interface Served {
  readonly url: string;
  readonly process: ChildProcess;
  /** What it logged so far. */
  log(): Record<string, unknown>[];
  /** Tells it to stop; resolves to its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Starts a server on a free port, by `heddle serve` or another command. Throws what it said if it ends before it listens. */
export function serve(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
  command: readonly string[] = ['serve'],
): Promise<Served> {
  const child = spawn(process.execPath, [`${root}dist/cli/main.js`, ...command, '--port', '0', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  let stdout = '';
  let stderr = '';
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const log = (): Record<string, unknown>[] =>
    stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    void ended.then((code) => reject(new Error(`the server ended with ${code}: ${stderr}`)));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      const listening = log().find(({ event }) => event === 'listening');
      if (!listening) return;
      resolve({
        url: listening.url as string,
        process: child,
        log,
        stop(signal = 'SIGTERM') {
          child.kill(signal);
          return ended;
        },
      });
    });
  });
}

/** Writes a model of a few thousand random parameters. */
export async function writeTinyModel(
  folder: string,
  {
    template,
    seed = 1,
    change = {},
  }: { template?: string; seed?: number; change?: Partial<ModelConfigInput> } = {},
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const model = hybridModel(tinyConfig({ maxPositionEmbeddings: 4096, ...change }));
  await writeModel(folder, model, tinyWeights(model, seed));
  await tinyTokenizer.save(folder);
  if (template !== undefined) writeFileSync(join(folder, 'chat_template.jinja'), template);
}

/** A POST of JSON. */
export function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}
