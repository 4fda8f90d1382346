/** `npm run bench -- serve`: the server under load. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { openDevice } from '../engine/index.js';
import { describeMachine } from './machine.js';
import { measureBatchGain } from './peak.js';
import { positive } from './positive.js';
import { machineText } from './report.js';
import { writeServedModel } from './serve-model.js';
import { gainText, servedText, soakText } from './serve-report.js';
import { measureServing } from './serve-section.js';
import { SHAPES, type ShapeName } from './shapes.js';

/** The clients whose gain is held against what the products allow. */
const BATCH = 8;

interface ServeOptions {
  threads: number;
  model: string;
  shape?: ShapeName;
  bits: number;
  clients: readonly number[];
  prompt: number;
  answer: number;
  rounds: number;
  soak: number;
}

async function runServe({
  threads,
  model,
  shape,
  bits,
  clients,
  prompt,
  answer,
  rounds,
  soak,
}: ServeOptions) {
  print(machineText(describeMachine('cpu', threads)));
  const made = shape === undefined ? undefined : await mkdtemp(join(tmpdir(), 'heddle-serve-'));
  try {
    const quantization = { bits: bits as 4 | 8, block: 128 as const };
    const folder = made === undefined ? model : await writeServedModel(made, shape!, quantization);
    const plan = {
      folder,
      threads,
      clients,
      promptTokens: prompt,
      answerTokens: answer,
      rounds,
      soakSeconds: soak,
    };
    const results = await measureServing(plan, ({ clients: count, shared }) =>
      process.stderr.write(
        `${count} clients, ${shared ? 'one beginning' : 'beginnings of their own'}: done\n`,
      ),
    );
    const what = shape === undefined ? model : `${shape}, ${bits} bits`;
    print(servedText(`${what}, prompts of ${prompt} tokens, answers of up to ${answer}`, results.loads));
    if (bits === 4 && shape !== undefined && clients.includes(1) && clients.includes(BATCH)) {
      const device = await openDevice('cpu', { threads });
      print(gainText(results.loads, BATCH, await measureBatchGain(device, BATCH)));
    }
    if (results.soak) print(soakText(results.soak));
  } finally {
    if (made !== undefined) await rm(made, { recursive: true, force: true });
  }
}

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('the server under load: clients that stream answers')
    .option('--threads <n>', 'threads that compute', positive, 2)
    .option('--model <folder>', 'the model to serve', 'assets/sotu-hybrid')
    .addOption(
      new Option('--shape <name>', 'random weights of this shape in the place of a model').choices(
        Object.keys(SHAPES),
      ),
    )
    .option('--bits <n>', 'of the weights of a shape: 4 or 8', positive, 4)
    .addOption(
      new Option('--clients <numbers>', 'clients at once')
        .argParser((text) => text.split(',').map(positive))
        .default([1, 8, 32, 128], '1,8,32,128'),
    )
    .option('--prompt <tokens>', 'tokens of a prompt', positive, 256)
    .option('--answer <tokens>', 'tokens of an answer', positive, 64)
    .option('--rounds <n>', 'answers that each client asks for', positive, 2)
    .option('--soak <seconds>', 'how long 8 clients go on without an end; 0 for not at all', Number, 0)
    .action((options: ServeOptions) => runServe(options));
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
