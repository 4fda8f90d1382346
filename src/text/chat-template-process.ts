/**
 * A process beside ours in which templates are rendered, since they come from outside and are programs: one may loop
 * for ever or build a text that fills the memory. A thread would not do: V8 ends the whole process, limits or not, when
 * a thread of it asks for a single string or list beyond them. The process is started at the first template, is kept
 * for the next ones, ends with ours, and never keeps ours alive.
 */
import type { ChildProcess } from 'node:child_process';
import {
  type RenderAnswer,
  type RenderFailure,
  type RenderRequest,
  renderRequests,
} from './chat-template-renderer.js';

export interface TemplateLimits {
  /** Milliseconds that a rendering may take. */
  readonly time: number;
  /** Megabytes of heap that the process may take. */
  readonly memory: number;
  /** Characters that may come of it. */
  readonly length: number;
}

/** Far above what any conversation needs: they part the slow from the endless. */
export const TEMPLATE_LIMITS: TemplateLimits = { time: 10_000, memory: 256, length: 2 ** 24 };

export type TemplateAnswer =
  | { readonly text: string }
  | { readonly failure: RenderFailure | 'ended' | 'unstartable'; readonly message: string };

/** What the process has beyond a rendering's time to answer, before it is ended from here. */
const GRACE = 10_000;

export class TemplateProcess {
  #child: ChildProcess | undefined;
  /** The renderings before: one at a time. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(private readonly limits: TemplateLimits = TEMPLATE_LIMITS) {}

  /** Renders a template with variables that JSON can carry. It always answers, and in bounded time. */
  render(source: string, variables: Readonly<Record<string, unknown>>): Promise<TemplateAnswer> {
    const { time: timeLimit, length: lengthLimit } = this.limits;
    const request: RenderRequest = { source, variables, timeLimit, lengthLimit };
    const message = JSON.stringify(request);
    const answer = this.#queue.then(() => this.#ask(message));
    this.#queue = answer;
    return answer;
  }

  /** Ends the process; another rendering starts another. */
  close(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }

  async #ask(message: string): Promise<TemplateAnswer> {
    let child: ChildProcess;
    try {
      this.#child ??= await this.#start();
      child = this.#child;
    } catch (error) {
      return { failure: 'unstartable', message: (error as Error).message };
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), this.limits.time + GRACE);
      const done = (answer: TemplateAnswer): void => {
        clearTimeout(timer);
        child.off('message', answered).off('exit', ended).off('error', failed);
        // Between two renderings nobody waits for it.
        child.unref();
        child.channel?.unref();
        resolve(answer);
      };
      const answered = (answer: unknown): void => done(answer as RenderAnswer);
      const ended = (code: number | null, signal: string | null): void =>
        done({ failure: 'ended', message: signal ?? `exit code ${code}` });
      const failed = ({ message }: Error): void => done({ failure: 'unstartable', message });
      child.on('message', answered).on('exit', ended).on('error', failed);
      child.ref();
      child.channel?.ref();
      // Where it has ended meanwhile, its exit says so.
      child.send(message, () => {});
    });
  }

  async #start(): Promise<ChildProcess> {
    const { spawn } = await import('node:child_process');
    const { createRequire } = await import('node:module');
    const library = createRequire(import.meta.url).resolve('@huggingface/jinja');
    const program = `(${renderRequests})(require, ${JSON.stringify(library)})`;
    const flags = [`--max-old-space-size=${this.limits.memory}`, '--input-type=commonjs'];
    const child = spawn(process.execPath, [...flags, '--eval', program], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      // What our own process was told is not for this one.
      env: { ...process.env, NODE_OPTIONS: '' },
      windowsHide: true,
    });
    const forget = (): void => {
      if (this.#child === child) this.#child = undefined;
    };
    child.on('exit', forget).on('error', forget);
    return child;
  }
}
