/**
 * Processes that run each program together, each on GPUs of its own, on one machine or on several. They meet in a Valkey or Redis, by the
 * numbers that they were given.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'iovalkey';
import { DeviceError } from '../../errors.js';
import type { ProcessGroup, ProcessOptions } from '../program.js';

/** Milliseconds between two looks for the others. */
const PAUSE = 50;
/** Milliseconds after which a process that no longer says that it waits counts as gone. */
const PRESENCE = 5000;
/** Seconds after which keys are gone: no run looks for them that late. */
const LIFETIME = 86_400;
/** Milliseconds between two looks whether a process has failed. */
const WATCH = 2000;
/** The connection's patience during a run, which outlasts a restart of the store. */
const RUN_PATIENCE = { command: 60_000, retries: null };

/** A group whose processes have all been met. */
export class Group implements ProcessGroup {
  readonly process: number;
  readonly processes: number;
  private run = 0;
  /** Rejects when a process of the present run fails. */
  private failure: Promise<never> = new Promise(() => {});
  private watch: NodeJS.Timeout | undefined;

  private constructor(
    { process, processes }: ProcessOptions,
    private readonly client: Redis,
    /** Address of the store, for the plugin's callbacks. */
    readonly place: string,
    /** Stands before all keys of this run: no other run has the same. */
    readonly prefix: string,
  ) {
    this.process = process;
    this.processes = processes;
  }

  /**
   * Waits until all processes are there. Throws `DeviceError` where the store cannot be reached, another process has the same number, or one
   * does not come within `patience` milliseconds.
   */
  static async meet(options: ProcessOptions): Promise<Group> {
    const { place, name } = placeOf(options.coordinator);
    const { connectValkey } = await import('../../platform/node/valkey.js');
    const client = connectValkey(place);
    try {
      const id = await new Meeting(client, `heddle:run:${name}`, options).hold();
      return new Group(options, connectValkey(place, RUN_PATIENCE), place, `heddle:run:${id}:`);
    } catch (error) {
      if (error instanceof DeviceError) throw error;
      throw new DeviceError(
        `the processes of the run cannot meet at ${options.coordinator}: ${(error as Error).message}`,
        { cause: error },
      );
    } finally {
      client.disconnect();
    }
  }

  begin(): void {
    this.run++;
    clearInterval(this.watch);
    this.failure = new Promise((_, reject) => {
      this.watch = setInterval(() => this.read().catch(reject), WATCH);
    });
    // It may reject while nothing awaits it, which must not count as an unhandled rejection.
    this.failure.catch(() => {});
    this.watch!.unref();
  }

  async expectSame(what: string, value: string): Promise<void> {
    await this.reach((client) => client.set(this.key(`same:${what}:${this.process}`), value, 'EX', LIFETIME));
    const keys = Array.from({ length: this.processes }, (_, i) => this.key(`same:${what}:${i}`));
    for (;;) {
      const values = await this.read(...keys);
      const other = values.findIndex((found) => found !== null && found !== value);
      if (other >= 0)
        throw new DeviceError(
          `process ${this.process} has other ${what} than process ${other}: start all processes of a run with the same options and data`,
        );
      if (values.every((found) => found !== null)) return;
      await sleep(PAUSE);
    }
  }

  async atMost(what: string, proposal?: number): Promise<number> {
    const key = this.key(`most:${what}`);
    if (proposal !== undefined) await this.reach((client) => client.set(key, proposal, 'EX', LIFETIME, 'NX'));
    const [bound] = await this.read(key);
    return Number(bound ?? Number.POSITIVE_INFINITY);
  }

  together<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.failure]);
  }

  async fail(reason: string): Promise<void> {
    const told = `process ${this.process} has failed: ${reason}`;
    try {
      await this.reach((client) => client.set(this.key('failed'), told, 'EX', LIFETIME, 'NX'));
    } finally {
      this.dispose();
    }
  }

  dispose(): void {
    clearInterval(this.watch);
    this.client.disconnect();
  }

  /** The values of keys. Throws what a process that has failed told. */
  private async read(...keys: readonly string[]): Promise<(string | null)[]> {
    const [told, ...values] = await this.reach((client) => client.mget(this.key('failed'), ...keys));
    if (told) throw new DeviceError(told);
    return values;
  }

  private key(name: string): string {
    return `${this.prefix}${this.run}:${name}`;
  }

  private async reach<T>(ask: (client: Redis) => Promise<T>): Promise<T> {
    try {
      return await ask(this.client);
    } catch (error) {
      throw new DeviceError(`the store at ${this.place} cannot be reached: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

/** How the processes learn the name that their run has: the first gives it to those that wait at the same time. */
class Meeting {
  private readonly mine = randomUUID();

  constructor(
    private readonly client: Redis,
    private readonly name: string,
    private readonly options: ProcessOptions,
  ) {}

  async hold(): Promise<string> {
    const { process, processes, patience = 300_000 } = this.options;
    const until = performance.now() + patience;
    const others = Array.from({ length: processes }, (_, i) => i).filter((i) => i > 0);
    for (;;) {
      await this.wait();
      if (process === 0) {
        const arrivals = await Promise.all(others.map((i) => this.arrivalOf(i)));
        const missing = others.filter((_, i) => arrivals[i] === undefined);
        if (missing.length === 0) return await this.give(arrivals as string[]);
        if (performance.now() > until) throw this.missing(missing, patience);
      } else {
        const id = await this.client.get(`${this.name}:${this.mine}`);
        if (id !== null) {
          await this.client.del(this.place(process));
          return id;
        }
        if (performance.now() > until) throw this.missing([0], patience);
      }
      await sleep(PAUSE);
    }
  }

  /** Says that this process is there, for `PRESENCE` milliseconds from now. */
  private async wait(): Promise<void> {
    const place = this.place(this.options.process);
    const until = performance.now() + 2 * PRESENCE;
    for (;;) {
      if ((await this.client.set(place, this.mine, 'PX', PRESENCE, 'NX')) === 'OK') return;
      if ((await this.client.get(place)) === this.mine) {
        await this.client.pexpire(place, PRESENCE);
        return;
      }
      if (performance.now() > until)
        throw new DeviceError(
          `another process waits as process ${this.options.process} of the same run: give each its own number, or the run another name (redis://host:6379#name)`,
        );
      await sleep(PAUSE);
    }
  }

  /** Who waits as this process. One that has not said so for a second is gone, or hangs. */
  private async arrivalOf(process: number): Promise<string | undefined> {
    const place = this.place(process);
    const [arrival, left] = await Promise.all([this.client.get(place), this.client.pttl(place)]);
    return arrival !== null && left > PRESENCE - 1000 ? arrival : undefined;
  }

  private async give(arrivals: readonly string[]): Promise<string> {
    const id = randomUUID();
    const all = this.client.multi();
    for (const arrival of arrivals) all.set(`${this.name}:${arrival}`, id, 'EX', LIFETIME);
    all.del(this.place(0));
    await all.exec();
    return id;
  }

  private place(process: number): string {
    return `${this.name}:waiting:${process}`;
  }

  private missing(processes: readonly number[], patience: number): DeviceError {
    return new DeviceError(
      `of the ${this.options.processes} processes of the run, ${processes.join(', ')} did not come within ${patience / 1000} s: start ${processes.length === 1 ? 'it' : 'them'} with the same --coordinator`,
    );
  }
}

/** A store's address, and the name of a run behind `#`, which tells trainings apart that meet in one store. */
function placeOf(coordinator: string): { place: string; name: string } {
  if (!/^(redis|valkey)s?:\/\/[^/]/.test(coordinator)) {
    throw new DeviceError(
      `--coordinator is '${coordinator}': expected the address of a Valkey or Redis, such as redis://host:6379 or redis://host:6379#name`,
    );
  }
  const [place = '', name = ''] = coordinator.split('#');
  return { place, name: name === '' ? 'default' : name };
}
