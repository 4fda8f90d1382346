/** What keys may do. */
import { describe, expect, test } from 'vitest';
import { thrownBy } from '../testing/refusal.js';
import { ApiError } from './http/api-error.js';
import { KeyAccounts } from './limits.js';

describe('accounts', () => {
  test('fill up again with time', () => {
    let now = 0;
    const accounts = new KeyAccounts({ concurrency: 10, perMinute: 3 }, () => now);
    for (let i = 0; i < 3; i++) accounts.admit('ada').release();
    const refused = (): ApiError => thrownBy(ApiError, () => accounts.admit('ada'));
    expect(refused()).toMatchObject({ status: 429, code: 'rate_limit_exceeded' });
    expect(refused().about.headers!['retry-after']).toBe('20');
    // Others have an account of their own.
    expect(accounts.admit('ben').headers['x-ratelimit-remaining-requests']).toBe('2');
    now = 19_999;
    expect(refused().status).toBe(429);
    now = 20_001;
    accounts.admit('ada').release();
    expect(refused().status).toBe(429);
    now = 1e9;
    for (let i = 0; i < 3; i++) accounts.admit('ada').release();
    expect(refused().status).toBe(429);
  });

  test('without an end have none', () => {
    const unlimited = { concurrency: Number.POSITIVE_INFINITY, perMinute: Number.POSITIVE_INFINITY };
    const accounts = new KeyAccounts(unlimited, () => 5);
    for (let i = 0; i < 1000; i++) expect(accounts.admit('ada').headers).toEqual({});
  });

  test('count what runs, once', () => {
    const accounts = new KeyAccounts({ concurrency: 1, perMinute: 100 }, () => 0);
    const first = accounts.admit('ada');
    expect(() => accounts.admit('ada')).toThrow(ApiError);
    first.release();
    first.release();
    const second = accounts.admit('ada');
    expect(() => accounts.admit('ada')).toThrow(/running/);
    second.release();
  });
});
