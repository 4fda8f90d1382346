/**
 * How long it takes until an answer from a document's state begins, on the CPU. Usage: node bench/archive/asking.mjs
 *   [--shape granite-350m | constant-350m] [--bits 4] [--lengths 1000,8000,32000] [--tokenizer folder] [--threads 2] [--rounds 7] [--cache float16 | int8]
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
import { median } from '../../dist/evidence/section.js';
import { loadModel, newStateId, openStore, StateLibrary } from '../../dist/generate/index.js';
import { Snapshot } from '../../dist/generate/snapshot.js';
import { layoutOf } from '../../dist/generate/state-file.js';
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
    cache: { type: 'string' },
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
  const { cache } = values;
  const model = await loadModel(root, { threads: Number(values.threads), ...(cache && { cache }) });
  const library = new StateLibrary(openStore(join(root, 'states')));
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
    const times = { load: [], first: [], again: [] };
    const firstToken = async (local) => {
      const began = performance.now();
      // A token of such a model may be no text by itself, so that the time is taken when an answer of one token has ended.
      for await (const _ of local.answer({ messages: [{ role: 'user', content }], state: id, maxTokens: 1 }));
      return performance.now() - began;
    };
    for (let round = -1; round < Number(values.rounds); round++) {
      const began = performance.now();
      (await library.load('archive', id, model)).snapshot.dispose();
      const load = performance.now() - began;
      // One that has asked nothing yet has no state in memory.
      const local = await LocalModel.of(root, { library }, model);
      const first = await firstToken(local);
      const again = await firstToken(local);
      await local.forget();
      // The first round touches what is new.
      if (round < 0) continue;
      for (const [name, time] of Object.entries({ load, first, again })) times[name].push(time);
    }
    const told = Object.fromEntries(
      Object.entries(times).map(([name, list]) => [name, `${median(list).toFixed(0)} ms`]),
    );
    console.log(
      `behind ${length} tokens (a state of ${(bytes / 1e6).toFixed(0)} MB): the first token after ${told.first}, of which ${told.load} for loading the state; asked again, with the state in memory, after ${told.again}`,
    );
    await library.discard('archive', id);
  }
  await model.dispose();
} finally {
  rmSync(root, { recursive: true, force: true });
}
