/**
 * A process that says lines of JSON, of its own accord or one for each line that it is told. What is measured runs in such
 * processes: none slows another by what it holds, and the peak of its memory is its own.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import { parseJson } from '../checkpoint/index.js';
import { HeddleError } from '../errors.js';

/** A process ended, or said something else than was agreed. */
export class ContenderError extends HeddleError {
  constructor(message: string) {
    super('contender', message);
  }
}

/** A child that is talked with in lines of JSON. */
export class LineProcess {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: AsyncIterator<string>;
  private readonly closed: Promise<unknown>;
  private complaints = '';

  constructor(
    private readonly name: string,
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = process.env,
  ) {
    this.child = spawn(command, args, { stdio: 'pipe', env });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.closed = once(this.child, 'close').catch(() => {});
    this.child.stderr.on('data', (text: Buffer) => {
      this.complaints = (this.complaints + text.toString()).slice(-2000);
    });
    this.child.on('error', (error) => {
      this.complaints += error.message;
    });
    // Writing to one that has gone fails; that it does not answer is what is reported.
    this.child.stdin.on('error', () => {});
  }

  tell(line: string): void {
    this.child.stdin.write(`${line}\n`);
  }

  /** The next line. Throws `ContenderError` where there is none, or another than was expected. */
  async hear<T>(schema: z.ZodType<T>): Promise<T> {
    const said = await this.next(schema);
    if (said === undefined) throw this.endedEarly();
    return said;
  }

  /** The lines that are still to come. Throws `ContenderError` as `hear` does, and where the process fails in the end. */
  async *hearAll<T>(schema: z.ZodType<T>): AsyncGenerator<T> {
    for (let said = await this.next(schema); said !== undefined; said = await this.next(schema)) yield said;
    await this.closed;
    if (!this.child.killed && this.child.exitCode !== 0) throw this.endedEarly();
  }

  stop(): void {
    this.child.kill();
  }

  private async next<T>(schema: z.ZodType<T>): Promise<T | undefined> {
    const { value, done } = await this.lines.next();
    if (done) return undefined;
    const result = schema.safeParse(parseJson(value));
    if (!result.success) throw new ContenderError(`${this.name} said what was not asked: ${value}`);
    return result.data;
  }

  /** With why: the last line of its complaints that names an error, else the last one. */
  private endedEarly(): ContenderError {
    const lines = this.complaints.trim().split('\n');
    const reason = lines.filter((line) => /error:/i.test(line)).at(-1) ?? lines.at(-1);
    return new ContenderError(`${this.name} ended early${reason ? `: ${reason.trim()}` : ''}`);
  }
}

/** What a process says of itself, for whoever started it. */
export function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
