/** Loss and perplexity on held-out examples. */
import {
  type Device,
  type Executable,
  type HostTensor,
  hostZeros,
  type Program,
  type State,
} from '../engine/index.js';
import type { Model } from '../models/index.js';
import type { FiniteExamples, Objective } from './data.js';
import { carriedName, evaluationProgram, leftName } from './program.js';
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

/**
 * A program of `evaluationProgram` run over the first `limit` examples, `batch` at a time: with a memory in batches that are all full.
 */
export async function evaluate(
  executable: Executable,
  objective: Objective,
  examples: FiniteExamples,
  batch: number,
  { state, limit = examples.count }: { state?: State; limit?: number } = {},
): Promise<Evaluation> {
  const sums: Record<string, number> = {};
  // What the rows of a batch leave is fed to those of the next.
  const memory = firstMemory(objective, batch);
  const last = Math.min(limit, examples.count);
  for (let first = 0; first < last; first += batch) {
    const count = Math.min(batch, last - first);
    const outputs = await executable.run(
      { ...feedsOf(objective, examples.take(first, count), [count]), ...memory },
      state && [state],
    );
    for (const { name } of objective.memory ?? []) {
      memory[carriedName(name)] = outputs[leftName(name)]!;
      delete outputs[leftName(name)];
    }
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

/** What the rows of the first batch remember: nothing. */
function firstMemory({ memory = [] }: Objective, batch: number): Record<string, HostTensor> {
  return Object.fromEntries(
    memory.map(({ name, dtype, shape, initial }) => {
      const value = hostZeros(dtype, [batch, ...(shape.slice(1) as number[])]);
      if (initial !== 0) (value.data as Float32Array).fill(initial);
      return [carriedName(name), value];
    }),
  );
}
