/**
 * Parity with transformers 5.17 on a tiny checkpoint of every family, and on variants that turn on what those leave off:
 * every hidden state, the logits, the loss, its gradients, greedy decoding, and that it does not matter in what
 * pieces a text is read.
 */

import { describe, expect, test } from 'vitest';
import { int64, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { gradient, input, scalar, type Tensor } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { ParameterRegistry } from '../nn/index.js';
import { forward, locateWeights, logitsOf, type Model, readModel, readWeights } from './index.js';
import { meanLoss, reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';

const device = await openDevice('cpu', { threads: 1 });

/** Families whose hidden states, as transformers gives them, begin after the first layer instead of before it. */
const WITHOUT_EMBEDDINGS = ['mamba', 'mamba2', 'falcon_mamba'];

/** Our names, where transformers has the parameter under another in memory than in the file. */
function nameInMemory(model: Model, name: string): string {
  return (model.stored?.loaded?.(name) ?? name)
    .replace('block_sparse_moe.input_linear.weight', 'block_sparse_moe.experts.gate_up_proj')
    .replace('block_sparse_moe.output_linear.weight', 'block_sparse_moe.experts.down_proj')
    .replace('block_sparse_moe.router.layer.weight', 'block_sparse_moe.router.weight');
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

const references = (['hf', 'variants'] as const).flatMap((kind) =>
  referenceNames(kind).map((name) => [name, kind] as const),
);

describe.each(references)('%s', async (name, kind) => {
  const reference = await readReference(kind, name);
  const { ids, folder } = reference;
  const [batch, sequence] = [ids.length, ids[0]!.length];
  const model = await readModel(folder);

  test('hidden states and logits', async () => {
    const registry = new ParameterRegistry();
    const tokens = input('ids', 'int64', ['batch', 'sequence']);
    const position = input('position', 'int64', []);
    const result = forward(model, registry, tokens, position);
    const seen = [...result.residuals.slice(0, -1), result.hidden];
    const expected = WITHOUT_EMBEDDINGS.includes(name) ? [...result.residuals.slice(1), result.hidden] : seen;
    if (kind === 'hf') expect(reference.hiddenStates.length).toBe(expected.length);
    const outputs: Record<string, Tensor> = { logits: logitsOf(model, registry, result.hidden) };
    for (const [i, state] of expected.entries()) outputs[`state${i}`] = state;
    const executable = await device.compile({
      inputs: [tokens, position],
      outputs,
      weights: await locateWeights(folder, model),
    });
    const feeds = { ids: int64(ids.flat(), [batch, sequence]), position: int64([0], []) };
    const values = await executable.run(feeds);
    for (const [i, state] of reference.hiddenStates.entries()) {
      const error = relativeError(values[`state${i}`]!.data as Float32Array, state);
      expect(error, `hidden state ${i}`).toBeLessThan(2e-5);
    }
    expect(relativeError(values.logits!.data as Float32Array, reference.logits)).toBeLessThan(2e-5);
    await executable.dispose();
  });

  test('the same logits where all dimensions are fixed', async () => {
    const registry = new ParameterRegistry();
    const tokens = input('ids', 'int64', ['batch', 'sequence']);
    const { hidden } = forward(model, registry, tokens, scalar(0, 'int64'));
    const executable = await device.compile(
      withInputs({
        outputs: { logits: logitsOf(model, registry, hidden) },
        weights: await locateWeights(folder, model),
        dims: { batch, sequence },
      }),
    );
    const { logits } = await executable.run({ ids: int64(ids.flat(), [batch, sequence]) });
    expect(relativeError(logits!.data as Float32Array, reference.logits)).toBeLessThan(2e-5);
    await executable.dispose();
  });

  test('the loss and its gradients', async () => {
    const registry = new ParameterRegistry();
    const tokens = input('tokens', 'int64', [batch, sequence]);
    const loss = meanLoss(model, registry, tokens);
    const parameters = [...registry.tensors];
    const parts = gradient(
      loss,
      parameters.map(([, tensor]) => tensor),
    );
    const outputs: Record<string, Tensor> = { loss };
    for (const [i, [parameter]] of parameters.entries()) outputs[`d ${parameter}`] = parts[i]!;
    const executable = await device.compile(withInputs({ outputs }));
    const values = await executable.run({
      ...Object.fromEntries(await readWeights(folder, model)),
      tokens: int64(ids.flat(), [batch, sequence]),
    });
    expect(Math.abs((values.loss!.data[0] as number) / reference.loss - 1)).toBeLessThan(1e-5);
    const left = new Set(Object.keys(reference.gradientNorms));
    for (const [parameter] of parameters) {
      const known = nameInMemory(model, parameter);
      const found = values[`d ${parameter}`]!.data as Float32Array;
      left.delete(known);
      // What transformers keeps as a buffer does not learn.
      const expected = reference.gradientNorms[known] ?? 0;
      // Where nearly nothing flows, rounding is all there is.
      const tiny = 1e-6 * Math.max(...Object.values(reference.gradientNorms));
      expect(Math.abs(norm(found) - expected), `norm of ${parameter}`).toBeLessThan(1e-3 * expected + tiny);
      const whole = reference.gradients.get(known);
      if (whole && expected > 1e3 * tiny)
        expect(relativeError(found, whole), `gradient of ${parameter}`).toBeLessThan(1e-3);
    }
    expect([...left]).toEqual([]);
    await executable.dispose();
  });

  test('the same continuation, and the same logits in any pieces', async () => {
    const read = await reader(device, model, await locateWeights(folder, model));
    const written: number[] = [];
    const states = read.newStates(1);
    let logits = await read.step([reference.prompt], 0, states);
    for (const expected of reference.greedy) {
      const last = logits.slice(-model.vocabSize);
      const id = last.indexOf(last.reduce((a, b) => Math.max(a, b)));
      written.push(id);
      expect(id).toBe(expected);
      logits = await read.step([[id]], reference.prompt.length + written.length - 1, states);
    }
    for (const sizes of [[sequence], [1], [5, 1, 11, 2, 18]]) {
      const output = await read.inPieces(ids, sizes);
      expect(relativeError(output, reference.logits), `in pieces of ${sizes}`).toBeLessThan(2e-5);
    }
    await read.dispose();
  });
});
