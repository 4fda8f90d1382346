/**
 * A child process that writes lines of JSON, by itself or in reply to lines of input. Measurements run in such processes, so that
 * none is slowed by the memory of another, and each has its own peak memory.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import { parseJson } from '../checkpoint/index.js';
import { HeddleError } from '../errors.js';

/** A process ended early, or broke the protocol. */
export class ContenderError extends HeddleError {
  constructor(message: string) {
    super('contender', message);
  }
}

/** A child process with a protocol of JSON lines. */
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
    // Writing to an ended process fails; the missing reply is reported instead.
    this.child.stdin.on('error', () => {});
  }

  tell(line: string): void {
    this.child.stdin.write(`${line}\n`);
  }

  /** Reads the next line. Throws `ContenderError` if there is none or it does not match the schema. */
  async hear<T>(schema: z.ZodType<T>): Promise<T> {
    const said = await this.next(schema);
    if (said === undefined) throw this.endedEarly();
    return said;
  }

  /** Reads the remaining lines. Throws `ContenderError` as `hear` does, and if the process fails in the end. */
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
    if (!result.success) throw new ContenderError(`${this.name} printed an unexpected line: ${value}`);
    return result.data;
  }

  /** The error with the reason: the last line of stderr that names an error, else the last line. */
  private endedEarly(): ContenderError {
    const lines = this.complaints.trim().split('\n');
    const reason = lines.filter((line) => /error:/i.test(line)).at(-1) ?? lines.at(-1);
    return new ContenderError(`${this.name} ended early${reason ? `: ${reason.trim()}` : ''}`);
  }
}

/** Prints a line of JSON for the parent process. */
export function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
