/** `npm run bench -- serve`: the server under load. */
import { type Command, Option } from 'commander';
import { openDevice } from '../engine/index.js';
import { SHIPPED_MODEL } from '../models/index.js';
import { describeMachine } from './machine.js';
import { addShapeOptions, type ShapeOptions, withMeasuredModel } from './measured-model.js';
import { measureBatchGain } from './peak.js';
import { positive } from './positive.js';
import { machineText } from './report.js';
import { gainText, servedText, soakText } from './serve-report.js';
import { measureServing } from './serve-section.js';

/** The number of clients whose speedup is compared with that of the matrix products. */
const BATCH = 8;

interface ServeOptions extends ShapeOptions {
  threads: number;
  model: string;
  clients: readonly number[];
  prompt: number;
  answer: number;
  rounds: number;
  soak: number;
}

async function runServe(options: ServeOptions): Promise<void> {
  const { threads, model, shape, bits, clients, prompt, answer, rounds, soak } = options;
  print(machineText(describeMachine('cpu', threads)));
  await withMeasuredModel(model, options, async (folder, name) => {
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
      process.stderr.write(`${count} clients, ${shared ? 'a shared prefix' : 'separate prefixes'}: done\n`),
    );
    print(servedText(`${name}, prompts of ${prompt} tokens, answers of up to ${answer}`, results.loads));
    if (bits === 4 && shape !== undefined && clients.includes(1) && clients.includes(BATCH)) {
      const device = await openDevice('cpu', { threads });
      print(gainText(results.loads, BATCH, await measureBatchGain(device, BATCH)));
    }
    if (results.soak) print(soakText(results.soak));
  });
}

/** Adds the command `serve`. */
export function addServeCommand(program: Command): void {
  addShapeOptions(program.command('serve'))
    .description('the server under load from clients that stream answers')
    .option('--threads <n>', 'threads that compute', positive, 2)
    .option('--model <folder>', 'the model to serve', SHIPPED_MODEL)
    .addOption(
      new Option('--clients <numbers>', 'clients at once')
        .argParser((text) => text.split(',').map(positive))
        .default([1, 8, 32, 128], '1,8,32,128'),
    )
    .option('--prompt <tokens>', 'tokens of a prompt', positive, 256)
    .option('--answer <tokens>', 'tokens per answer', positive, 64)
    .option('--rounds <n>', 'answers that each client requests', positive, 2)
    .option('--soak <seconds>', 'duration of a soak test with 8 clients; 0 skips it', Number, 0)
    .action((options: ServeOptions) => runServe(options));
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
