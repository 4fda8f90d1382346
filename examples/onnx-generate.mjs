// Goes on from token ids, greedily, with what `heddle export --to onnx` wrote, and prints the ids:
//   node onnx-generate.mjs <folder> <how many> <id> <id> ...
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';

const [folder, count, ...prompt] = process.argv.slice(2);
const { model, states } = JSON.parse(readFileSync(join(folder, 'model.onnx.json'), 'utf8'));
const session = await InferenceSession.create(join(folder, model));
const int64 = (values, dims) => new Tensor('int64', BigInt64Array.from(values, BigInt), dims);

const sizes = { batch: 1, past: 0 };
const held = {};
for (const { input, dtype, shape, initial } of states) {
  const dims = shape.map((dim) => sizes[dim] ?? dim);
  const values = new Array(dims.reduce((a, b) => a * b, 1)).fill(initial);
  held[input] = dtype === 'int64' ? int64(values, dims) : new Tensor(dtype, Float32Array.from(values), dims);
}

let ids = prompt;
for (let step = 0; step < count; step++) {
  // All new tokens are read; logits are computed of the last.
  const fed = { ids: int64(ids, [1, ids.length]), places: int64([ids.length - 1], [1]) };
  const results = await session.run({ ...fed, ...held });
  for (const { input, output } of states) held[input] = results[output];
  const logits = results.logits.data;
  ids = [logits.indexOf(logits.reduce((a, b) => Math.max(a, b)))];
  console.log(ids[0]);
}
