/** Runs units of work in processes, several at a time if they need not run alone, and reports each finding. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Finding, type Findings, findingIn } from './finding.js';
import type { Work } from './work.js';

/** Options of `gather`. */
export interface GatherOptions {
  readonly works: readonly Work[];
  readonly findings: Findings;
  /** The command line that runs a unit of work, which prints one finding per line. */
  readonly call: (work: Work) => readonly string[];
  /** The number of concurrent processes. */
  readonly jobs: number;
  /** Aborts all work. */
  readonly signal: AbortSignal;
  readonly onFinding: (finding: Finding) => void;
  readonly onFailure: (work: Work, message: string) => void;
}

/** Runs the works; those that must run alone come last, one at a time. */
export async function gather(options: GatherOptions): Promise<void> {
  const { works, jobs } = options;
  // The temporary folder of the processes, so that files left by killed ones are removed too.
  const scratch = await mkdtemp(join(tmpdir(), 'heddle-evidence-'));
  const inTurns = async (some: readonly Work[], most: number): Promise<void> => {
    const waiting = [...some];
    const worker = async (): Promise<void> => {
      for (let work = waiting.shift(); work && !options.signal.aborted; work = waiting.shift())
        await inProcess(work, scratch, options);
    };
    await Promise.all(Array.from({ length: most }, worker));
  };
  try {
    await inTurns(
      works.filter(({ alone }) => !alone),
      jobs,
    );
    await inTurns(
      works.filter(({ alone }) => alone),
      1,
    );
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The most characters of a process's standard error that are kept. */
const LONGEST_MESSAGE = 4000;

async function inProcess(
  work: Work,
  scratch: string,
  { call, findings, signal, onFinding, onFailure }: GatherOptions,
): Promise<void> {
  const [program, ...words] = call(work);
  const child = spawn(program!, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: scratch, TMP: scratch, TEMP: scratch },
  });
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
  let wrong: string | undefined;
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      let finding: Finding | undefined;
      try {
        // A library may print other lines.
        finding = findingIn(line);
      } catch (error) {
        wrong ??= (error as Error).message;
      }
      if (!finding) continue;
      await findings.add(finding);
      onFinding(finding);
    }
  } catch (error) {
    // The file cannot be written, so further findings would be lost.
    stop();
    throw error;
  }
  const code = await ended;
  signal.removeEventListener('abort', stop);
  if (signal.aborted) return;
  if (wrong !== undefined) onFailure(work, wrong);
  else if (code !== 0) onFailure(work, message.trim().split('\n').at(-1) ?? '');
}
