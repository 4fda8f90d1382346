/**
 * What the process beside ours does: it renders the templates that it is sent (see chat-template-process.ts).
 *
 * `@huggingface/jinja` is the language; around it stands what `transformers` gives a template, where the library's own
 * would write something else in silence: `range` has the sandbox's bound, months and weekdays are English whatever the
 * machine speaks, and `strip`, `lstrip` and `rstrip` heed the characters that they are given.
 */
import type * as Jinja from '@huggingface/jinja';

export interface RenderRequest {
  readonly source: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** Milliseconds that it may take. */
  readonly timeLimit: number;
  /** Characters that may come of it. */
  readonly lengthLimit: number;
}

export type RenderFailure = 'syntax' | 'raised' | 'failed' | 'time' | 'length';

export type RenderAnswer =
  | { readonly text: string }
  | { readonly failure: RenderFailure; readonly message: string };

/**
 * Answers each request that comes over the process's channel. Its source is what that process runs, so it names
 * nothing from outside itself; `jinjaPath` is where the library lies.
 */
export function renderRequests(require: NodeJS.Require, jinjaPath: string): void {
  const { Environment, Interpreter, parse, tokenize } = require(jinjaPath) as typeof Jinja;
  const vm = require('node:vm') as typeof import('node:vm');

  class Raised extends Error {}
  const MAX_RANGE = 100_000;

  const range = (first: number, second?: number, step = 1): number[] => {
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    if (step === 0) throw new Error('range() step must not be zero');
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (length > MAX_RANGE) throw new Error(`range() of ${length} numbers: at most ${MAX_RANGE} are allowed`);
    return Array.from({ length }, (_, i) => start + i * step);
  };

  const strftimeNow = (format: string): string => {
    const now = new Date();
    const english = (options: Intl.DateTimeFormatOptions): string =>
      new Intl.DateTimeFormat('en-US', options).format(now);
    const padded = (value: number, width = 2): string => String(value).padStart(width, '0');
    const hour12 = now.getHours() % 12 || 12;
    const dayOfYear = Math.round(
      (Date.UTC(now.getFullYear(), now.getMonth(), now.getDate()) - Date.UTC(now.getFullYear(), 0, 0)) /
        86_400_000,
    );
    const parts: Record<string, () => string> = {
      a: () => english({ weekday: 'short' }),
      A: () => english({ weekday: 'long' }),
      b: () => english({ month: 'short' }),
      B: () => english({ month: 'long' }),
      d: () => padded(now.getDate()),
      H: () => padded(now.getHours()),
      I: () => padded(hour12),
      j: () => padded(dayOfYear, 3),
      m: () => padded(now.getMonth() + 1),
      M: () => padded(now.getMinutes()),
      p: () => (now.getHours() < 12 ? 'AM' : 'PM'),
      S: () => padded(now.getSeconds()),
      y: () => padded(now.getFullYear() % 100),
      Y: () => padded(now.getFullYear(), 4),
      '%': () => '%',
    };
    // '%-d' is %d without the zeros in front.
    return format.replace(/%(-?)([a-zA-Z%])/g, (directive, bare: string, name: string) => {
      const text = Object.hasOwn(parts, name) ? parts[name]!() : directive;
      return bare ? text.replace(/^0+(?=\d)/, '') : text;
    });
  };

  const raiseException = (message: unknown): never => {
    throw new Raised(String(message));
  };

  const globals = new Environment();
  const values = { true: true, True: true, false: false, False: false, none: null, None: null };
  const functions = { range, strftime_now: strftimeNow, raise_exception: raiseException };
  for (const [name, value] of Object.entries({ ...values, ...functions })) globals.set(name, value);

  const heedCharacters = (): void => {
    type Value = { readonly value: unknown };
    const scratch = new Environment();
    const text = scratch.set('text', '');
    const StringValue = text.constructor as new (value: string) => Value;
    const FunctionValue = scratch.set('call', () => '').constructor as new (
      call: (args: readonly Value[]) => Value,
    ) => Value;
    const prototype = Object.getPrototypeOf(text) as object;
    const inherited = Object.getOwnPropertyDescriptor(prototype, 'builtins')!.get!;
    const strip = (from: string, args: readonly Value[], left: boolean, right: boolean): Value => {
      const given = args[0]?.value;
      const drop = typeof given === 'string' ? (c: string) => given.includes(c) : (c: string) => /\s/.test(c);
      const characters = Array.from(from);
      let start = 0;
      let end = characters.length;
      while (left && start < end && drop(characters[start]!)) start++;
      while (right && end > start && drop(characters[end - 1]!)) end--;
      return new StringValue(characters.slice(start, end).join(''));
    };
    Object.defineProperty(prototype, 'builtins', {
      get(this: { readonly value: string }): Map<string, Value> {
        const builtins = inherited.call(this) as Map<string, Value>;
        const { value } = this;
        builtins.set('strip', new FunctionValue((args) => strip(value, args, true, true)));
        builtins.set('lstrip', new FunctionValue((args) => strip(value, args, true, false)));
        builtins.set('rstrip', new FunctionValue((args) => strip(value, args, false, true)));
        return builtins;
      },
    });
  };
  heedCharacters();

  const render = ({ source, variables, lengthLimit }: RenderRequest): RenderAnswer => {
    let program: ReturnType<typeof parse>;
    try {
      program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      return { failure: 'syntax', message: (error as Error).message };
    }
    // A scope of its own: what is given may have the name of what stands above.
    const scope = new Environment(globals);
    for (const [name, value] of Object.entries(variables)) scope.set(name, value);
    const text = new Interpreter(scope).run(program).value as string;
    if (text.length <= lengthLimit) return { text };
    return { failure: 'length', message: `${text.length} characters` };
  };

  const answer = (request: RenderRequest): RenderAnswer => {
    const bench = globalThis as { task?: () => RenderAnswer };
    bench.task = () => render(request);
    try {
      // Only a script can be stopped in its midst: nobody may be left to do so from outside.
      return new vm.Script('task()').runInThisContext({ timeout: request.timeLimit }) as RenderAnswer;
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException;
      if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return { failure: 'time', message };
      return { failure: error instanceof Raised ? 'raised' : 'failed', message };
    }
  };

  // Ctrl-C in a terminal reaches every process of the group, but what it ends is for ours to say.
  process.on('SIGINT', () => {});
  process.on('message', (request: string) => {
    process.send!(answer(JSON.parse(request) as RenderRequest));
  });
}
