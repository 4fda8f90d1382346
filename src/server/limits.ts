/** Rate limits of API keys. */
import { ApiError } from './http/api-error.js';

/** The limits of one key. */
export interface KeyLimits {
  /** Concurrent requests. */
  readonly concurrency: number;
  /** Requests per minute, which may come in one burst; Infinity for no limit. */
  readonly perMinute: number;
}

/** An admitted request: the rate limit headers, and the function to call at its end. */
export interface Admission {
  readonly headers: Readonly<Record<string, string>>;
  release(): void;
}

interface Account {
  running: number;
  /** The remaining requests at that time (token bucket). */
  left: number;
  at: number;
}

/** The accounts of all keys. */
export class KeyAccounts {
  private readonly accounts = new Map<string, Account>();

  constructor(
    private readonly limits: KeyLimits,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Admits a request, which calls `release` at its end. Throws `ApiError` 429 with the time to retry. */
  admit(owner: string): Admission {
    const { concurrency, perMinute } = this.limits;
    const now = this.now();
    const account = this.accounts.get(owner) ?? { running: 0, left: perMinute, at: now };
    this.accounts.set(owner, account);
    const gained = now > account.at ? ((now - account.at) / 60_000) * perMinute : 0;
    account.left = Math.min(perMinute, account.left + gained);
    account.at = now;
    const refuse = (code: string, message: string, seconds: number): never => {
      throw new ApiError(429, code, message, {
        headers: { ...this.headersOf(account), 'retry-after': String(Math.max(1, Math.ceil(seconds))) },
      });
    };
    if (account.running >= concurrency) {
      refuse(
        'concurrency_limit_exceeded',
        `this key has ${concurrency} requests running, as many as it may: wait for one of them`,
        1,
      );
    }
    if (account.left < 1) {
      refuse(
        'rate_limit_exceeded',
        `this key may send ${perMinute} requests a minute: come again later`,
        ((1 - account.left) * 60) / perMinute,
      );
    }
    account.left -= 1;
    account.running++;
    let running = true;
    return {
      headers: this.headersOf(account),
      release: () => {
        if (running) account.running--;
        running = false;
      },
    };
  }

  private headersOf({ left }: Account): Record<string, string> {
    if (this.limits.perMinute === Number.POSITIVE_INFINITY) return {};
    return {
      'x-ratelimit-limit-requests': String(this.limits.perMinute),
      'x-ratelimit-remaining-requests': String(Math.floor(left)),
    };
  }
}
