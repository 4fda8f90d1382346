/** Does pieces of work in processes, several at a time where they may run beside others, and keeps what they find as it comes. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Finding, Findings } from './finding.js';
import type { Work } from './work.js';

export interface GatherOptions {
  readonly works: readonly Work[];
  readonly findings: Findings;
  /** Words that call this program on a piece of work, by its name; it prints a finding a line. */
  readonly call: (work: Work) => readonly string[];
  /** Processes at a time. */
  readonly jobs: number;
  /** No work begins and none goes on after this. */
  readonly signal: AbortSignal;
  readonly onFinding: (finding: Finding) => void;
  readonly onFailure: (work: Work, message: string) => void;
}

/** Those that need a quiet machine come last, one at a time. */
export async function gather(options: GatherOptions): Promise<void> {
  const { works, jobs } = options;
  await inTurns(
    works.filter(({ alone }) => !alone),
    jobs,
    options,
  );
  await inTurns(
    works.filter(({ alone }) => alone),
    1,
    options,
  );
}

async function inTurns(works: readonly Work[], jobs: number, options: GatherOptions): Promise<void> {
  const waiting = [...works];
  const worker = async (): Promise<void> => {
    for (let work = waiting.shift(); work && !options.signal.aborted; work = waiting.shift())
      await inProcess(work, options);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

/** What a process may say on standard error before it is cut. */
const LONGEST_MESSAGE = 4000;

async function inProcess(
  work: Work,
  { call, findings, signal, onFinding, onFailure }: GatherOptions,
): Promise<void> {
  const [program, ...words] = call(work);
  const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  let message = '';
  child.stderr.on('data', (bytes: Buffer) => {
    message = (message + bytes.toString()).slice(-LONGEST_MESSAGE);
  });
  const ended = new Promise<number | null>((done) => {
    child.on('error', (error) => {
      message += error.message;
      done(1);
    });
    child.on('close', done);
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const finding = JSON.parse(line) as Finding;
    await findings.add(finding);
    onFinding(finding);
  }
  const code = await ended;
  signal.removeEventListener('abort', stop);
  if (code !== 0 && !signal.aborted) onFailure(work, message.trim().split('\n').at(-1) ?? '');
}
