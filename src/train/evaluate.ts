/** Loss and perplexity on held-out examples. */
import type { Device, Executable, HostTensor, Program, State } from '../engine/index.js';
import type { Model } from '../models/index.js';
import type { FiniteExamples, Objective } from './data.js';
import { evaluationProgram } from './program.js';
import { expectKnownTokens, heldOut, nextTokens } from './text.js';

/** How well held-out examples are predicted. */
export interface Evaluation {
  /** Nats a token; or what else the objective counts. */
  loss: number;
  perplexity: number;
  /** Tokens that were predicted. */
  tokens: number;
  /** What the objective measures besides, each as a mean: `accuracy`, say. */
  measures?: Record<string, number>;
}

/** A program of `evaluationProgram` run over the first `limit` examples, `batch` at a time. */
export async function evaluate(
  executable: Executable,
  objective: Objective,
  examples: FiniteExamples,
  batch: number,
  { state, limit = examples.count }: { state?: State; limit?: number } = {},
): Promise<Evaluation> {
  const sums: Record<string, number> = {};
  const last = Math.min(limit, examples.count);
  for (let first = 0; first < last; first += batch) {
    const count = Math.min(batch, last - first);
    const outputs = await executable.run(
      feedsOf(objective, examples.take(first, count), [count]),
      state && [state],
    );
    for (const [name, { data }] of Object.entries(outputs)) sums[name] = (sums[name] ?? 0) + Number(data[0]);
  }
  const { loss: total, count, ...measured } = sums as { loss: number; count: number };
  const loss = total / count;
  const measures = Object.entries<number>(measured).map(([name, value]) => [name, value / count]);
  return {
    loss,
    perplexity: Math.exp(loss),
    tokens: count,
    ...(measures.length > 0 && { measures: Object.fromEntries(measures) }),
  };
}

/** Values of examples as feeds [...leading, ...shape]. */
export function feedsOf(
  { inputs }: Objective,
  values: ReturnType<FiniteExamples['take']>,
  leading: readonly number[],
): Record<string, HostTensor> {
  return Object.fromEntries(
    inputs.map(({ name, dtype, shape }) => [
      name,
      { dtype, dims: [...leading, ...shape], data: values[name]! },
    ]),
  );
}

/** The same for a model with these weights, over all of the examples. */
export async function evaluateExamples(
  model: Model,
  weights: NonNullable<Program['weights']>,
  objective: Objective,
  examples: FiniteExamples,
  batch: number,
  device: Device,
): Promise<Evaluation> {
  const executable = await device.compile({ ...evaluationProgram(model, objective), weights });
  try {
    return await evaluate(executable, objective, examples, batch);
  } finally {
    await executable.dispose();
  }
}

/** Over all of `tokens` in sequences of the given length, each token from those before it. */
export async function evaluateModel(
  model: Model,
  weights: NonNullable<Program['weights']>,
  tokens: Int32Array,
  sequence: number,
  device: Device,
): Promise<Evaluation> {
  expectKnownTokens(tokens, model);
  return evaluateExamples(model, weights, nextTokens(sequence), heldOut(tokens, sequence), 8, device);
}
