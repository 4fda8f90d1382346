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

/** The results of an evaluation. */
export interface Evaluation {
  /** Nats a token, or for each item that the objective counts. */
  loss: number;
  /** Of models of text: e to the loss. */
  perplexity?: number;
  /** Tokens that were predicted. */
  tokens: number;
  /** Means of the objective's further measures, such as `accuracy`. */
  measures?: Record<string, number>;
}

/** The evaluation of the weights after `step` steps. */
export interface StepEvaluation extends Evaluation {
  step: number;
}

/**
 * Runs a program of `evaluationProgram` over the first `limit` examples, `batch` at a time; with a memory only in full batches. `ofTokens` says
 * whether the losses are of tokens, which alone have a perplexity.
 */
export async function evaluate(
  executable: Executable,
  objective: Objective,
  examples: FiniteExamples,
  batch: number,
  {
    state,
    limit = examples.count,
    ofTokens = true,
  }: { state?: State; limit?: number; ofTokens?: boolean } = {},
): Promise<Evaluation> {
  const sums: Record<string, number> = {};
  // Carried states are fed to the next batch.
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
    ...(ofTokens && { perplexity: Math.exp(loss) }),
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

/** Evaluates a model with these weights on all examples. */
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
    return await evaluate(executable, objective, examples, batch, { ofTokens: !model.modality });
  } finally {
    await executable.dispose();
  }
}

/** Evaluates next-token prediction on `tokens` in sequences of the given length. */
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

/** The initial carried states. */
function firstMemory({ memory = [] }: Objective, batch: number): Record<string, HostTensor> {
  return Object.fromEntries(
    memory.map(({ name, dtype, shape, initial }) => {
      const value = hostZeros(dtype, [batch, ...(shape.slice(1) as number[])]);
      if (initial !== 0) (value.data as Float32Array).fill(initial);
      return [carriedName(name), value];
    }),
  );
}
