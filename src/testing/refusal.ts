/** Errors that tests expect. */
import { expect } from 'vitest';

/** The error that a promise rejects with. Fails the test if it resolves. */
export async function refusal(run: Promise<unknown>): Promise<Error> {
  return run.then(
    () => expect.fail('nothing was refused'),
    (error: Error) => error,
  );
}

/** The error of this class that a call throws. Fails the test if it returns, or throws another one. */
export function thrownBy<E extends Error>(kind: abstract new (...args: never) => E, run: () => unknown): E {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(kind);
    return error as E;
  }
  return expect.fail('nothing was refused');
}
