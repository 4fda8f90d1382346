/**
 * How long it takes until an answer from a document's state begins, on the CPU. Usage: node bench/archive/asking.mjs
 *   [--shape granite-350m | constant-350m] [--bits 4] [--lengths 1000,8000,32000] [--tokenizer folder] [--threads 2] [--rounds 7]
 *
 * A model of random weights is asked from the states of documents of these lengths, as `heddle archive ask --from state` asks it: the state
 * is taken from the disk, the question and what the model is told around it are read, and a token is written. The model is loaded
 * already, as a server has it. The values in the state do not matter for the time, and are zeros. A tokenizer without a chat template gets one.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { promptOf } from '../../dist/archive/ask.js';
import { LocalModel } from '../../dist/archive/index.js';
import { loadModel, newStateId, openStore, StateLibrary } from '../../dist/generate/index.js';
import { layoutOf, Snapshot } from '../../dist/generate/snapshot.js';
import { DTYPES } from '../../dist/graph/index.js';
import { writeShape } from './shapes.mjs';

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'granite-350m' },
    bits: { type: 'string', default: '4' },
    lengths: { type: 'string', default: '1000,8000,32000' },
    tokenizer: { type: 'string', default: 'assets/sotu-hybrid' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '7' },
  },
});
const CHATML =
  '{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';
const QUESTION = 'How long is the notice period for a lease that began before 2020?';
const root = mkdtempSync(join(tmpdir(), 'heddle-asking-'));
try {
  const name = await writeShape(root, values.shape, Number(values.bits), values.tokenizer);
  const config = join(root, 'tokenizer_config.json');
  const told = JSON.parse(readFileSync(config, 'utf8'));
  if (told.chat_template === undefined)
    writeFileSync(config, JSON.stringify({ ...told, chat_template: CHATML }));
  const model = await loadModel(root, { threads: Number(values.threads) });
  const library = new StateLibrary(openStore(join(root, 'states')));
  const local = await LocalModel.of(root, { library }, model);
  const document = { name: 'lease.pdf' };
  const content = promptOf(QUESTION, [], document);
  console.log(
    `${name}, ${values.threads} threads: asked with about ${model.tokenizer.encode(content).length} tokens`,
  );
  for (const length of values.lengths.split(',').map(Number)) {
    const zeros = new Map(
      layoutOf(model, length).map(({ name: each, dtype, dims }) => [
        each,
        { dtype, dims, data: new DTYPES[dtype].array(dims.reduce((a, b) => a * b, 1)) },
      ]),
    );
    const id = newStateId();
    const snapshot = new Snapshot({
      model,
      state: model.newState(zeros, length),
      tokens: new Int32Array(length).fill(100),
      pending: 0,
      logits: new Float32Array(model.model.vocabSize),
    });
    const about = { model: 'measured', name: 'lease.pdf', parent: null, base: length, messages: [] };
    const { bytes } = await library.save('archive', snapshot, about, id);
    snapshot.dispose();
    const first = [];
    const load = [];
    for (let round = -1; round < Number(values.rounds); round++) {
      const began = performance.now();
      (await library.load('archive', id, model)).snapshot.dispose();
      const between = performance.now();
      for await (const _ of local.answer({ messages: [{ role: 'user', content }], state: id, maxTokens: 8 }))
        break;
      // The first round touches what is new.
      if (round < 0) continue;
      load.push(between - began);
      first.push(performance.now() - between);
    }
    const median = (list) => list.sort((a, b) => a - b)[list.length >> 1].toFixed(0);
    console.log(
      `behind ${length} tokens (a state of ${(bytes / 1e6).toFixed(0)} MB): the first token after ${median(first)} ms, of which ${median(load)} ms for the state`,
    );
    await library.discard('archive', id);
  }
  await model.dispose();
} finally {
  rmSync(root, { recursive: true, force: true });
}
