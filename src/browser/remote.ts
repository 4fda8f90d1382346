/**
 * Remote calls from a page to objects in a worker. Plain data are copied. Any other value is replaced by a number: an object of
 * the worker, a function of the page that the worker calls back, or a signal. The worker may use functions and signals until the call
 * has been answered; if the call creates an object, which keeps using them, until that object is released.
 */
import * as errors from '../errors.js';

/** From the page: call a method, or abort a signal. */
export type Request =
  | {
      readonly kind: 'call';
      readonly id: number;
      readonly target: number;
      readonly method: string;
      readonly args: unknown[];
      readonly as?: number;
    }
  | { readonly kind: 'abort'; readonly signal: number; readonly reason: unknown };

/** From the worker: the result of a call, or a callback to be called. */
export type Answer =
  | { readonly kind: 'value'; readonly id: number; readonly value: unknown; readonly facts: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly error: unknown; readonly facts: unknown }
  | { readonly kind: 'callback'; readonly callback: number; readonly args: unknown[] };

/** The placeholder of a value that cannot be copied between threads. */
class Stand {
  /** Marks a placeholder; unlike the class, it survives structured cloning. */
  readonly heddle = true;

  constructor(
    readonly what: 'object' | 'callback' | 'signal',
    readonly id: number,
    readonly type?: string,
    readonly facts?: unknown,
  ) {}
}

function isStand(value: object): value is Stand {
  return 'heddle' in value && 'what' in value;
}

/** A copy of plain data in which each value for which `change` returns something is replaced by that. */
function mapped(value: unknown, change: (value: object) => unknown): unknown {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return value;
  const changed = change(value);
  if (changed !== undefined) return changed;
  if (Array.isArray(value)) return value.map((item) => mapped(item, change));
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapped(item, change)]));
}

/** An object of the worker, as the page sees it. */
export abstract class Remote<Facts = undefined> {
  constructor(
    protected readonly connection: Connection,
    /** @internal */
    readonly id: number,
    protected facts: Facts,
  ) {
    connection.follow(id, (told) => this.take(told as Facts));
  }

  protected take(facts: Facts): void {
    this.facts = this.changed(facts);
  }

  /** Updates the facts of an object after a call; returns those to store. */
  protected changed(facts: Facts): Facts {
    return facts;
  }

  protected call<T>(method: string, ...args: unknown[]): Promise<T> {
    return this.connection.call<T>(this.id, method, args);
  }
}

/** Creates the page's proxy of an object, by the type's name. */
export type Types = Readonly<
  Record<string, (connection: Connection, id: number, facts: never) => Remote<unknown>>
>;

type Release = () => void;

/** The page's end of the connection. */
export class Connection {
  private calls = 0;
  private names = 0;
  private readonly waiting = new Map<
    number,
    { resolve(value: unknown): void; reject(error: unknown): void; target: number; lent: Release[] }
  >();
  /** The functions that release what each object of the worker uses, by its number. */
  private readonly lent = new Map<number, Release[]>();
  private readonly callbacks = new Map<number, (...args: unknown[]) => void>();
  private readonly followers = new Map<number, (facts: unknown) => void>();
  private ended: Error | undefined;

  constructor(
    private readonly worker: Worker,
    private readonly types: Types,
  ) {
    worker.onmessage = ({ data }: MessageEvent<Answer>) => this.take(data);
    worker.onerror = (event) => {
      const reason =
        event.message ||
        "its script could not be loaded. Bundle heddle's dist/browser/worker.js beside the script of the page, or pass loadModel a function `worker` that starts it";
      this.close(new errors.DeviceError(`the worker failed: ${reason}`));
    };
  }

  /** Calls a method of an object of the worker. With `as`, the result gets this number, and is not sent back. */
  call<T>(target: number, method: string, args: readonly unknown[], as?: number): Promise<T> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.calls;
    const lent: Release[] = [];
    const packed = args.map((arg) => this.packed(arg, lent));
    if (as) this.lent.set(as, lent);
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, {
        ...{ resolve: resolve as (value: unknown) => void, reject, target },
        lent: as ? [] : lent,
      });
      this.post({ kind: 'call', id, target, method, args: packed, ...(as && { as }) });
    });
  }

  /** A number for an object that a call will create. It is negative; those that the worker assigns are positive. */
  newName(): number {
    return --this.names;
  }

  follow(id: number, follower: (facts: unknown) => void): void {
    this.followers.set(id, follower);
  }

  /** Releases what belongs to an object that is no longer used. */
  forget(id: number): void {
    this.followers.delete(id);
    for (const release of this.lent.get(id) ?? []) release();
    this.lent.delete(id);
  }

  /** Terminates the worker without waiting for it. */
  end(): void {
    this.close(new errors.DeviceError('the model was disposed of: load it again'));
  }

  /** Terminates the worker; pending calls are rejected with `why`. */
  close(why: Error): void {
    this.ended ??= why;
    this.worker.terminate();
    for (const { reject, lent } of this.waiting.values()) {
      for (const release of lent) release();
      reject(this.ended);
    }
    this.waiting.clear();
    for (const id of [...this.lent.keys()]) this.forget(id);
  }

  private post(request: Request): void {
    this.worker.postMessage(request);
  }

  /** Appends to `lent` a function to call when the worker no longer uses the value. */
  private packed(value: unknown, lent: Release[]): unknown {
    return mapped(value, (item) => {
      if (item instanceof Remote) return new Stand('object', item.id);
      if (typeof item === 'function') {
        const id = this.newName();
        this.callbacks.set(id, item as (...args: unknown[]) => void);
        lent.push(() => this.callbacks.delete(id));
        return new Stand('callback', id);
      }
      if (item instanceof AbortSignal) {
        const signal = this.newName();
        const abort = (): void => this.post({ kind: 'abort', signal, reason: item.reason });
        if (item.aborted) queueMicrotask(abort);
        else item.addEventListener('abort', abort, { once: true });
        lent.push(() => item.removeEventListener('abort', abort));
        return new Stand('signal', signal);
      }
      return undefined;
    });
  }

  private unpacked(value: unknown): unknown {
    return mapped(value, (item) => {
      if (!isStand(item)) return undefined;
      return this.types[item.type!]!(this, item.id, item.facts as never);
    });
  }

  private take(answer: Answer): void {
    if (answer.kind === 'callback') {
      this.callbacks.get(answer.callback)?.(...answer.args);
      return;
    }
    const waiting = this.waiting.get(answer.id);
    if (!waiting) return;
    this.waiting.delete(answer.id);
    for (const release of waiting.lent) release();
    if (answer.facts !== undefined) this.followers.get(waiting.target)?.(answer.facts);
    if (answer.kind === 'value') waiting.resolve(this.unpacked(answer.value));
    else waiting.reject(revived(answer.error));
  }
}

/** Describes the worker's objects. */
export interface Served {
  /** The name of an object's type, if it is passed by number; undefined for plain data. */
  typeOf(value: object): string | undefined;
  /** The facts of an object that the page stores after a call of one of its methods. */
  factsOf(value: object): unknown;
}

/** The worker's end: serves calls of `root`, which is object 0, and of the objects that those return. */
export function serve(root: object, { typeOf, factsOf }: Served): void {
  const objects = new Map<number, object>([[0, root]]);
  const signals = new Map<number, AbortController>();
  /** The numbers of the signals that each object uses. */
  const lent = new Map<number, number[]>();
  let names = 0;

  const packed = (value: unknown): unknown =>
    mapped(value, (item) => {
      const type = typeOf(item);
      if (type === undefined) return undefined;
      objects.set(++names, item);
      return new Stand('object', names, type, factsOf(item));
    });

  /** Appends the numbers of the signals to `used`. */
  const unpacked = (value: unknown, used: number[]): unknown =>
    mapped(value, (item) => {
      if (!isStand(item)) return undefined;
      if (item.what === 'object') return objects.get(item.id);
      if (item.what === 'signal') {
        const controller = new AbortController();
        signals.set(item.id, controller);
        used.push(item.id);
        return controller.signal;
      }
      return (...args: unknown[]) => post({ kind: 'callback', callback: item.id, args });
    });

  const answer = async (request: Request): Promise<void> => {
    if (request.kind === 'abort') {
      signals.get(request.signal)?.abort(request.reason);
      return;
    }
    const { id, target, method, args, as } = request;
    const object = objects.get(target) as Record<string, (...args: unknown[]) => unknown> | undefined;
    const used: number[] = [];
    try {
      if (!object) throw new errors.DataError('this was disposed of: make another');
      const given = object[method]!(...args.map((arg) => unpacked(arg, used)));
      if (as) {
        objects.set(as, given as object);
        lent.set(as, used.splice(0));
      }
      const value = as ? undefined : packed(await given);
      if (method === 'dispose' || method === 'return') {
        objects.delete(target);
        used.push(...(lent.get(target) ?? []));
        lent.delete(target);
      }
      post({ kind: 'value', id, value, facts: factsOf(object) });
    } catch (error) {
      post({ kind: 'error', id, error: told(error), facts: object && factsOf(object) });
    } finally {
      for (const signal of used) signals.delete(signal);
    }
  };
  globalThis.onmessage = ({ data }: MessageEvent<Request>) => void answer(data);
}

function post(answer: Answer): void {
  postMessage(answer);
}

/** An error as plain data, since structured cloning loses its class. */
function told(error: unknown): unknown {
  if (!(error instanceof errors.HeddleError)) return error;
  const { name, code, message } = error;
  return { heddle: name, code, message };
}

function revived(error: unknown): unknown {
  if (typeof error !== 'object' || error === null || !('heddle' in error)) return error;
  const { heddle, code, message } = error as { heddle: string; code: string; message: string };
  const Class = (errors as unknown as Record<string, new (message: string) => Error>)[heddle];
  return Class ? new Class(message) : new errors.HeddleError(code, message);
}
