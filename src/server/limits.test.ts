/** Places in line, and what keys may do. */
import { describe, expect, test } from 'vitest';
import { ApiError } from './http/api-error.js';
import { KeyAccounts, Slots } from './limits.js';

const never = new AbortController().signal;

describe('slots', () => {
  test('are given in the order in which they were asked for', async () => {
    const slots = new Slots(2, 10);
    const release = await slots.take(2, never);
    const order: string[] = [];
    const wide = slots.take(2, never).then((done) => {
      order.push('wide');
      return done;
    });
    const narrow = slots.take(1, never).then((done) => {
      order.push('narrow');
      return done;
    });
    expect([slots.inUse, slots.waiting]).toEqual([2, 2]);
    release();
    release();
    (await wide)();
    (await narrow)();
    expect(order).toEqual(['wide', 'narrow']);
    expect([slots.inUse, slots.waiting]).toEqual([0, 0]);
  });

  test('who leaves the line makes room for the next', async () => {
    const slots = new Slots(2, 10);
    const release = await slots.take(1, never);
    const leaving = new AbortController();
    const wide = slots.take(2, leaving.signal);
    const narrow = slots.take(1, never);
    leaving.abort(new Error('gone'));
    await expect(wide).rejects.toThrow('gone');
    (await narrow)();
    release();
    expect([slots.inUse, slots.waiting]).toEqual([0, 0]);
    await expect(slots.take(1, leaving.signal)).rejects.toThrow('gone');
    expect(slots.inUse).toBe(0);
  });

  test('a line that is too long is refused', async () => {
    const slots = new Slots(1, 1);
    await slots.take(1, never);
    void slots.take(1, never);
    await expect(slots.take(1, never)).rejects.toMatchObject({ status: 503 });
    await expect(slots.take(2, never)).rejects.toMatchObject({ status: 400 });
  });
});

describe('accounts', () => {
  test('fill up again with time', () => {
    let now = 0;
    const accounts = new KeyAccounts({ concurrency: 10, perMinute: 3 }, () => now);
    for (let i = 0; i < 3; i++) accounts.admit('ada').release();
    const refused = (): ApiError => {
      try {
        accounts.admit('ada');
      } catch (error) {
        return error as ApiError;
      }
      throw new Error('it was admitted');
    };
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
