/**
 * Runs a command in a child process, which is restarted when it crashes: GPU libraries can abort the whole process, which JavaScript cannot catch.
 * Running requests are lost; saved states are not.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { ENDING_SIGNALS } from './interrupt.js';

/** The environment variable that marks the child process. */
const SUPERVISED = 'HEDDLE_SUPERVISED';
/** Signals of crashes. SIGKILL comes from the kernel if memory runs out, but also from users. */
const CRASHES: readonly string[] = ['SIGSEGV', 'SIGABRT', 'SIGBUS', 'SIGILL', 'SIGFPE'];

/** Which command is kept running, and how many crashes are tolerated. */
export interface Supervision {
  readonly command: readonly string[];
  readonly say: (line: string) => void;
  /** The most crashes within `window` milliseconds. */
  readonly crashes?: number;
  readonly window?: number;
  /** Milliseconds before the second start; doubled for each one after it. */
  readonly delay?: number;
}

/** Whether this process is supervised. If so, it stops, as after SIGTERM, when its supervisor ends. */
export function isSupervised(): boolean {
  if (process.env[SUPERVISED] === undefined) return false;
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  // This must not keep the process alive.
  process.channel?.unref();
  return true;
}

/** Runs a command until it ends, is stopped, or has crashed too often. Returns its exit code. */
export async function supervise({
  command: [program, ...args],
  say,
  crashes: most = 5,
  window = 600_000,
  delay = 1000,
}: Supervision): Promise<number> {
  const crashed: number[] = [];
  let told = false;
  for (;;) {
    const { code, signal } = await runOnce(program!, args, () => {
      told = true;
    });
    if (signal === null || told || !CRASHES.includes(signal)) return code ?? 128;
    const now = Date.now();
    crashed.push(now);
    const recent = crashed.filter((at) => at > now - window).length;
    if (recent > most) {
      say(`the server crashed ${recent} times (${signal}): it is not started again`);
      return 1;
    }
    say(`the server crashed (${signal}), most likely in the GPU's libraries: starting it again`);
    await sleep(delay * 2 ** (recent - 1));
  }
}

function runOnce(
  program: string,
  args: readonly string[],
  onTold: () => void,
): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      // Ctrl-C in a terminal reaches only this process, which forwards it once.
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, [SUPERVISED]: '1' },
    });
    const forward = (signal: NodeJS.Signals): void => {
      onTold();
      child.kill(signal);
    };
    for (const signal of ENDING_SIGNALS) process.on(signal, forward);
    const done = (): void => {
      for (const signal of ENDING_SIGNALS) process.off(signal, forward);
    };
    child.once('error', (error) => {
      done();
      reject(error);
    });
    child.once('exit', (code, signal) => {
      done();
      resolve({ code, signal });
    });
  });
}
