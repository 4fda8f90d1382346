/** Places in line. */
import { describe, expect, test } from 'vitest';
import { OverloadedError } from '../errors.js';
import { Slots } from './slots.js';

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
    expect(() => slots.take(1, leaving.signal)).toThrow('gone');
    expect(slots.inUse).toBe(0);
  });

  test('a line that is too long is refused', async () => {
    const slots = new Slots(1, 1);
    await slots.take(1, never);
    void slots.take(1, never);
    expect(() => slots.take(1, never)).toThrow(OverloadedError);
  });
});
