/**
 * The server under load: concurrent clients stream answers, with separate or shared prompt prefixes. The server is one
 * process and the clients are another, on the same machine, so the clients take part of its CPU time.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Random } from '../nn/index.js';
import { ContenderError } from './line-process.js';

/** The plan of the server benchmark. */
export interface ServePlan {
  readonly folder: string;
  readonly threads: number;
  /** Numbers of concurrent clients. */
  readonly clients: readonly number[];
  /** Tokens of each prompt and of each answer. */
  readonly promptTokens: number;
  readonly answerTokens: number;
  /** Answers that each client requests, one after the other. */
  readonly rounds: number;
  /** Duration of the soak test in seconds; 0 skips it. */
  readonly soakSeconds: number;
}

/** In seconds. */
export interface Spread {
  readonly median: number;
  /** The 99th percentile. */
  readonly p99: number;
}

/** The results of a load. */
export interface LoadResult {
  readonly clients: number;
  /** Whether the prompts share all but the last 16 tokens. */
  readonly shared: boolean;
  /** Generated tokens of all clients. */
  readonly tokensPerSecond: number;
  /** From a request to the first text of its answer. */
  readonly firstToken: Spread;
  /** Time per token from an answer's first token to its last. */
  readonly perToken: Spread;
  /** The longest gap between two pieces of an answer; a run may generate several tokens, which arrive together. */
  readonly longestGap: Spread;
  /** The share of prompt tokens whose state was cached. */
  readonly reused: number;
  /** Response time of `/healthz` during the load. */
  readonly health: Spread;
  readonly residentBytes: number;
}

/** The results of the soak test. */
export interface SoakResult {
  readonly seconds: number;
  readonly answers: number;
  /** Resident memory of the server at every tenth of the time, without its prefix cache, which fills up to its limit. */
  readonly residentBytes: readonly number[];
}

/** The results of all loads, and of the soak test if requested. */
export interface ServeResults {
  readonly loads: readonly LoadResult[];
  readonly soak: SoakResult | undefined;
}

const OWN_TOKENS = 16;
const SOAK_CLIENTS = 8;
/** Interval of requests to `/healthz`, in milliseconds. */
const HEALTH_EVERY = 20;

/** Measures all loads of a plan and reports each. */
export async function measureServing(
  plan: ServePlan,
  tell: (result: LoadResult) => void,
): Promise<ServeResults> {
  const server = await ServerProcess.start(plan);
  try {
    const loads: LoadResult[] = [];
    // Warm-up: the first runs of a process are the slowest.
    await server.load({ ...plan, rounds: 1 }, 1, false, 0);
    for (const shared of [false, true]) {
      for (const clients of plan.clients) {
        const result = await server.load(plan, clients, shared, loads.length + 1);
        loads.push(result);
        tell(result);
      }
    }
    const soak = plan.soakSeconds > 0 ? await server.soak(plan) : undefined;
    return { loads, soak };
  } finally {
    await server.stop();
  }
}

interface Answered {
  readonly tokens: number;
  readonly promptTokens: number;
  readonly reused: number;
  readonly first: number;
  readonly gaps: readonly number[];
}

class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly url: string,
    private readonly model: string,
    private readonly vocabulary: number,
    private readonly data: string,
  ) {}

  static async start({ folder, threads }: ServePlan): Promise<ServerProcess> {
    const data = await mkdtemp(join(tmpdir(), 'heddle-bench-serve-'));
    const command = fileURLToPath(new URL('../cli/main.js', import.meta.url));
    const limits = ['--answers', '128'];
    const place = ['--port', '0', '--data', data, '--threads', String(threads)];
    const child = spawn(process.execPath, [command, 'serve', folder, ...place, ...limits], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const { event, url } = JSON.parse(line) as { event: string; url: string };
      if (event !== 'listening') continue;
      const models = (await (await fetch(`${url}/v1/models`)).json()) as {
        data: { id: string; heddle: { vocabulary: number } }[];
      };
      const { id, heddle } = models.data[0]!;
      child.stdout.resume();
      return new ServerProcess(child, url, id, heddle.vocabulary, data);
    }
    throw new ContenderError('the server ended before it listened');
  }

  async load(plan: ServePlan, clients: number, shared: boolean, seed: number): Promise<LoadResult> {
    const random = new Random(seed);
    const beginning = this.tokens(plan.promptTokens - OWN_TOKENS, random);
    const health: number[] = [];
    let running = true;
    const watching = this.watchHealth(health, () => running);
    const began = performance.now();
    const client = async (): Promise<Answered[]> => {
      const answers: Answered[] = [];
      for (let round = 0; round < plan.rounds; round++) {
        const own = shared ? beginning : this.tokens(plan.promptTokens - OWN_TOKENS, random);
        const prompt = [...own, ...this.tokens(OWN_TOKENS, random)];
        answers.push(await this.ask(prompt, plan.answerTokens, random.below(2 ** 31)));
      }
      return answers;
    };
    const answers = (await Promise.all(Array.from({ length: clients }, client))).flat();
    const seconds = (performance.now() - began) / 1000;
    running = false;
    await watching;
    const sum = (pick: (answer: Answered) => number): number =>
      answers.reduce((total, answer) => total + pick(answer), 0);
    return {
      clients,
      shared,
      tokensPerSecond: sum(({ tokens }) => tokens) / seconds,
      firstToken: spreadOf(answers.map(({ first }) => first)),
      perToken: spreadOf(answers.map(({ gaps, tokens }) => gaps.reduce((a, b) => a + b, 0) / (tokens - 1))),
      longestGap: spreadOf(answers.map(({ gaps }) => Math.max(...gaps))),
      reused: sum(({ reused }) => reused) / sum(({ promptTokens }) => promptTokens),
      health: spreadOf(health),
      residentBytes: await this.residentBytes(),
    };
  }

  async soak(plan: ServePlan): Promise<SoakResult> {
    const random = new Random(99);
    const began = performance.now();
    const elapsed = (): number => (performance.now() - began) / 1000;
    const residentBytes: number[] = [];
    let answers = 0;
    const client = async (): Promise<void> => {
      while (elapsed() < plan.soakSeconds) {
        await this.ask(this.tokens(plan.promptTokens, random), plan.answerTokens, random.below(2 ** 31));
        answers++;
        if (elapsed() > (plan.soakSeconds * residentBytes.length) / 10) {
          residentBytes.push((await this.residentBytes()) - (await this.figure('heddle_cache_bytes')));
        }
      }
    };
    await Promise.all(Array.from({ length: SOAK_CLIENTS }, client));
    return { seconds: elapsed(), answers, residentBytes };
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGTERM');
    await gone;
    await rm(this.data, { recursive: true, force: true });
  }

  private tokens(count: number, random: Random): number[] {
    return Array.from({ length: count }, () => 1 + random.below(this.vocabulary - 1));
  }

  private async ask(prompt: number[], maxTokens: number, seed: number): Promise<Answered> {
    const began = performance.now();
    const response = await fetch(`${this.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: this.model,
        prompt,
        max_tokens: maxTokens,
        seed,
        temperature: 0.8,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    if (!response.ok)
      throw new ContenderError(`the server answered ${response.status}: ${await response.text()}`);
    const times: number[] = [];
    let last = '';
    let held = '';
    const decoder = new TextDecoder();
    for await (const part of response.body!) {
      held += decoder.decode(part, { stream: true });
      const events = held.split('\n\n');
      held = events.pop()!;
      for (const event of events) {
        if (event === 'data: [DONE]') continue;
        last = event;
        times.push(performance.now());
      }
    }
    const { usage, error } = JSON.parse(last.slice('data: '.length)) as {
      usage?: {
        prompt_tokens: number;
        completion_tokens: number;
        prompt_tokens_details: { cached_tokens: number };
      };
      error?: { message: string };
    };
    if (!usage) throw new ContenderError(`an answer broke off: ${error?.message ?? last}`);
    return {
      tokens: usage.completion_tokens,
      promptTokens: usage.prompt_tokens,
      reused: usage.prompt_tokens_details.cached_tokens,
      first: (times[0]! - began) / 1000,
      gaps: times.slice(1).map((time, i) => (time - times[i]!) / 1000),
    };
  }

  private async watchHealth(seconds: number[], running: () => boolean): Promise<void> {
    while (running()) {
      const began = performance.now();
      const answer = await fetch(`${this.url}/healthz`);
      await answer.text();
      seconds.push((performance.now() - began) / 1000);
      await new Promise((resolve) => setTimeout(resolve, HEALTH_EVERY));
    }
  }

  private residentBytes(): Promise<number> {
    return this.figure('process_resident_memory_bytes');
  }

  private async figure(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)![1]);
  }
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { median: at(0.5), p99: at(0.99) };
}
