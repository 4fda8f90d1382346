/**
 * Over several devices each computes its own sequences alone: XLA can cut a value over them only where the batch is an axis, or the major
 * part of one. Which elements depend on which sequence is found by changing one sequence after the other.
 */
import { expect, test } from 'vitest';
import { float32, int64 } from '../engine/index.js';
import { XlaDevice } from '../engine/xla/device.js';
import { EvaluatorClient } from '../engine/xla/testing/evaluator-client.js';
import type { Evaluated, Observer } from '../graph/testing/stablehlo/evaluate.js';
import { hybridModel, modelConfig, preset } from '../models/index.js';
import { initialWeights } from './equipment.js';
import { ADAMW_DEFAULTS, STEP_SCALARS, stepScalars } from './optimizer.js';
import { trainingProgram } from './program.js';
import { nextTokens } from './text.js';

/** Longer than a chunk of each recurrence and than a block of selective attention. */
const SEQUENCE = 72;
const VOCABULARY = 16;

type Step = Parameters<Observer>;

/** All that training steps compute that differ in the tokens of a sequence: from the same weights and as first steps. */
async function stepsOf(pattern: string, batches: readonly (readonly number[])[]): Promise<Step[][]> {
  const client = new EvaluatorClient(2);
  const device = new XlaDevice(client, { precision: 'float32', devices: 2, shard: 'data' });
  const config = modelConfig({
    ...preset('hybrid', 'nano', VOCABULARY),
    pattern,
    hiddenSize: 8,
    mambaNumHeads: 2,
    mambaHeadDim: 4,
    ssmStateSize: 4,
    intermediateSize: 8,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    headDim: 4,
    attentionWindow: 4,
    attentionSelected: 4,
  });
  const shape = { batch: 2, accumulate: 1, stepsPerRun: 1 };
  const { program, parameters } = trainingProgram(
    hybridModel(config),
    nextTokens(SEQUENCE),
    ADAMW_DEFAULTS,
    shape,
  );
  const executable = await device.compile(program);
  const scalars = float32(stepScalars(ADAMW_DEFAULTS, 1, 1e-3), [1, STEP_SCALARS]);
  const all: Step[][] = [];
  for (const tokens of batches) {
    const seen: Step[] = [];
    client.observer = (...step) => seen.push(step);
    const state = executable.newState(initialWeights(parameters, 1));
    await executable.run({ tokens: int64(tokens, [1, 1, 2, SEQUENCE + 1]), scalars }, [state]);
    state.dispose();
    all.push(seen);
  }
  await executable.dispose();
  return all;
}

/** Places whose values differ. */
function changed(a: Evaluated, b: Evaluated): number[] {
  return [...a.data.keys()].filter((i) => !Object.is(a.data[i], b.data[i]));
}

/** Axes of which the first half holds all of these places and the second half all of those. */
function axesOf(
  { type: { dims } }: Evaluated,
  first: readonly number[],
  second: readonly number[],
): number[] {
  return [...dims.keys()].filter((axis) => {
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
    const half = (place: number): number =>
      Math.floor(place / inner) % dims[axis]! < dims[axis]! / 2 ? 0 : 1;
    return first.every((place) => half(place) === 0) && second.every((place) => half(place) === 1);
  });
}

test.each(['MSI-'])(
  '%s: each value of a training step is cut along the batch, or a sum over it',
  async (pattern) => {
    const tokens = (seed: number): number[] =>
      Array.from({ length: SEQUENCE + 1 }, (_, i) => (i * i * 5 + seed * (i + 3)) % VOCABULARY);
    const [base, ofFirst, ofSecond] = (await stepsOf(pattern, [
      [...tokens(1), ...tokens(2)],
      [...tokens(3), ...tokens(2)],
      [...tokens(1), ...tokens(3)],
    ])) as [Step[], Step[], Step[]];
    const problems: string[] = [];
    let cut = 0;
    for (const [n, [instruction, , results]] of base.entries()) {
      for (const [i, value] of results.entries()) {
        const first = changed(value, ofFirst[n]![2][i]!);
        const second = changed(value, ofSecond[n]![2][i]!);
        const both = new Set(first);
        // The sum over the batch of a few numbers may have elements that only one sequence has changed.
        if (value.data.length < SEQUENCE) continue;
        if (first.length === 0 || second.length === 0 || second.some((place) => both.has(place))) continue;
        const axes = axesOf(value, first, second);
        if (axes.length > 0) cut++;
        else problems.push(`${instruction.name} makes [${value.type.dims}] of which no axis has the batch`);
        // What is picked or placed by index along the batch would have to be on one device.
        const { name, attributes } = instruction;
        const table = base[n]![1][0]!;
        const isPicked = name === 'gather' && changed(table, ofFirst[n]![1][0]!).length > 0;
        if (!isPicked && name !== 'scatter') continue;
        const kept = isPicked
          ? ['start_indices_batching_dims', 'offset_dims']
          : ['input_batching_dims', 'update_window_dims'];
        const allowed = kept.flatMap((key) => (attributes[key] as readonly number[] | undefined) ?? []);
        if (!axes.some((axis) => allowed.includes(axis)))
          problems.push(`${name} goes through sequences of [${table.type.dims}]`);
      }
    }
    expect(problems).toEqual([]);
    expect(cut).toBeGreaterThan(100);
  },
);
