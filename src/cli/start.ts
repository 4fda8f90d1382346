/**
 * `npm start`: serves the shipped model and opens the studio in a browser. It also continues a text through the server, as any client could.
 * Without a terminal, or in CI, where nobody could press Ctrl-C, it runs `heddle demo` instead and ends.
 */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { heddleCommand } from '../command-line.js';
import { ConfigError } from '../errors.js';
import { namedModel, SHIPPED_MODEL } from '../models/index.js';
import { type RunningServer, startServer } from '../server/index.js';
import { eventsOf } from '../server/sse-client.js';
import { DEMO_PROMPT, runDemo } from './demo.js';
import { formatBytes, formatRate } from './format.js';
import { port, wholeNumber } from './options.js';
import { untilStopped } from './serve.js';

const SHIPPED_RUNS = fileURLToPath(new URL('../../assets/sotu-runs', import.meta.url));
const PORT = 8080;
const DATA = 'heddle-data';

interface StartFlags {
  port?: number;
  open: boolean;
  once?: boolean;
  seed: number;
  maxTokens: number;
}

/** Arguments, options and action of `heddle` without a command. */
export function configure(command: Command): void {
  command
    .argument('[prompt...]', 'the text that the model goes on from meanwhile', [DEMO_PROMPT])
    .option('--port <n>', `port to listen on (default: ${PORT}, or any other that is free)`, port)
    .option('--no-open', 'leave the browser alone')
    .option('--once', 'serve nothing: show what demo shows, and end')
    .option('--seed <n>', 'the same seed writes the same text', wholeNumber, 3)
    .option('--max-tokens <n>', 'write at most this many tokens', wholeNumber, 160)
    .action((words: string[], flags: StartFlags) => run(words.join(' '), flags));
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

async function run(prompt: string, flags: StartFlags): Promise<void> {
  if (flags.once || !process.stdout.isTTY || process.env.CI !== undefined) {
    return runDemo(prompt, flags.seed, flags.maxTokens);
  }
  const server = await listen(flags.port);
  const leaving = new AbortController();
  const ended = untilStopped(server).finally(() => leaving.abort());
  const opened = flags.open && openBrowser(server.url);
  say(`The studio is at ${server.url}${opened ? ', and should be open in your browser' : ''}.\n`);
  say('The same model answers any client of the OpenAI interface:\n');
  say(`  curl ${server.url}/v1/completions -H 'content-type: application/json' \\`);
  say(`    -d '${JSON.stringify({ model: SHIPPED_MODEL, prompt: 'My fellow citizens', max_tokens: 40 })}'\n`);
  say('Trained on two centuries of speeches to the United States Congress, it goes on from your words:\n');
  await goOn(server.url, prompt, flags, leaving.signal).catch((error: unknown) => {
    if (!leaving.signal.aborted) throw error;
  });
  say('\nCtrl-C ends the server. In another terminal:\n');
  say(`  ${heddleCommand()} serve <model...>   serves other models`);
  say(`  ${heddleCommand()} demo               measures what a sequence costs on this machine`);
  say(`  ${heddleCommand()} train <text>       trains a model, which the studio follows`);
  await ended;
}

/** If no port is given and the default one is in use, any free port is used. */
async function listen(port: number | undefined): Promise<RunningServer> {
  const at = (port: number): Promise<RunningServer> =>
    startServer(
      {
        host: '127.0.0.1',
        port,
        keyLimits: { concurrency: 64, perMinute: 6000 },
        bodyBytes: 8e6,
        seconds: 600,
        drainSeconds: 2,
        logTexts: false,
        cors: [],
        runs: ['runs', SHIPPED_RUNS],
        // Of the log, only errors are shown in the terminal.
        log: (line) => {
          if ((JSON.parse(line) as { event: string }).event === 'failure') process.stderr.write(line);
        },
        version,
      },
      {
        models: [namedModel(SHIPPED_MODEL)],
        load: {},
        answers: 32,
        waiting: 256,
        states: join(DATA, 'states'),
        cacheBytes: 512e6,
        cacheFolder: join(DATA, 'cache'),
      },
    );
  try {
    return await at(port ?? PORT);
  } catch (error) {
    if (port !== undefined || !(error instanceof ConfigError)) throw error;
    return at(0);
  }
}

/** Continues a text, and prints the costs. */
async function goOn(
  url: string,
  prompt: string,
  { seed, maxTokens }: StartFlags,
  signal: AbortSignal,
): Promise<void> {
  process.stdout.write(prompt);
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: SHIPPED_MODEL,
      prompt,
      seed,
      max_tokens: maxTokens,
      stream: true,
      stream_options: { include_usage: true },
    }),
    signal,
  });
  let began: number | undefined;
  let written = 0;
  let bytes = 0;
  for await (const data of eventsOf(response)) {
    if (data === '[DONE]') break;
    const chunk = JSON.parse(data) as {
      choices: { text: string }[];
      usage?: { completion_tokens: number } | null;
      heddle?: { state_bytes: number };
    };
    const text = chunk.choices[0]?.text ?? '';
    if (text !== '') began ??= performance.now();
    process.stdout.write(text);
    written = chunk.usage?.completion_tokens ?? written;
    bytes = chunk.heddle?.state_bytes ?? bytes;
  }
  const seconds = (performance.now() - (began ?? performance.now())) / 1000;
  say(
    `\n\n${written} tokens at ${formatRate(written / seconds)}. This sequence holds ${formatBytes(bytes)} of memory, however long it gets.`,
  );
}

/** Opens the page in a browser, if there is a screen; returns whether it tried. */
function openBrowser(url: string): boolean {
  const { env, platform } = process;
  const remote = env.SSH_CONNECTION !== undefined;
  const screen = platform !== 'linux' || env.DISPLAY !== undefined || env.WAYLAND_DISPLAY !== undefined;
  if (remote || !screen) return false;
  const [command, ...args] =
    platform === 'darwin'
      ? ['open', url]
      : platform === 'win32'
        ? ['cmd', '/c', 'start', '', url]
        : ['xdg-open', url];
  const child = spawn(command!, args, { stdio: 'ignore', detached: true });
  // The address is printed anyway.
  child.on('error', () => {});
  child.unref();
  return true;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
