/** `npm run bench -- runtime`: prefill and decoding of models of published shapes, compared with peers. */
import { type Command, Option } from 'commander';
import { openDevice } from '../engine/index.js';
import { listOf } from './list-of.js';
import { describeMachine } from './machine.js';
import { measurePeak } from './peak.js';
import { FULL } from './plan.js';
import { positive } from './positive.js';
import { highest, machineText, peakText } from './report.js';
import { runtimeText } from './runtime-report.js';
import { measureRuntimes, type RuntimePlan } from './runtime-section.js';
import { ANSWER_KINDS, type RuntimeTask } from './runtime-tasks.js';
import { SHAPES, type ShapeName } from './shapes.js';

interface RuntimeOptions extends Omit<RuntimePlan, 'tasks' | 'peers'> {
  prefill: readonly number[];
  contexts: readonly number[];
  streams: number;
  answers: boolean;
  peer: readonly string[];
}

const NAMES = Object.keys(SHAPES) as ShapeName[];

/** The shapes that peers have too. */
const RACED: readonly ShapeName[] = ['granite-350m', 'granite-1b', 'smollm2-360m'];

/** Tokens before batches and answers. */
const SHORT = 128;

function tasksOf({ prefill, contexts, streams, answers }: RuntimeOptions): RuntimeTask[] {
  return [
    ...prefill.map((tokens) => ({ kind: 'prefill' as const, tokens })),
    ...contexts.map((tokens) => ({ kind: 'decode' as const, tokens, streams: 1 })),
    ...(streams > 1 ? [{ kind: 'decode' as const, tokens: SHORT, streams }] : []),
    ...(answers ? ANSWER_KINDS.map((how) => ({ kind: 'answer' as const, tokens: SHORT, how })) : []),
  ];
}

async function runRuntime(options: RuntimeOptions): Promise<void> {
  const { threads, peer } = options;
  print(machineText(describeMachine('cpu', threads)));
  const device = await openDevice('cpu', { threads });
  try {
    const peaks = [];
    for (const size of FULL.peak) peaks.push(await measurePeak(device, size));
    print(peakText(peaks));
    const tasks = tasksOf(options);
    const plan = { ...options, peers: peer, tasks };
    for await (const result of measureRuntimes(plan, device, progress)) {
      progress('');
      print(runtimeText(result, tasks, highest(peaks)));
    }
  } finally {
    await device.dispose();
  }
}

/** Prints the progress; on a terminal each line replaces the previous one. */
function progress(text: string): void {
  const { isTTY, columns = 80 } = process.stderr;
  if (isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, columns - 1)}`);
  else if (text) process.stderr.write(`${text}\n`);
}

const numbers = (text: string): number[] => (text === 'none' ? [] : text.split(',').map(positive));

/** Adds the command `runtime`. */
export function addRuntimeCommand(program: Command): void {
  program
    .command('runtime')
    .description('prefill and decoding of models of published shapes, in alternating rounds with peers')
    .option('--threads <n>', 'threads that compute', positive, 2)
    .addOption(
      new Option('--shapes <names>', `some of ${NAMES.join(',')}`)
        .argParser(listOf(NAMES))
        .default(RACED, RACED.join(',')),
    )
    .addOption(
      new Option('--bits <numbers>', 'bits of the weights, some of 4,8,16; 16 is bfloat16')
        .argParser((text) => listOf(['4', '8', '16'])(text).map(Number))
        .default([4], '4'),
    )
    .addOption(
      new Option('--prefill <tokens>', 'prompt lengths in tokens, or none')
        .argParser(numbers)
        .default([512], '512'),
    )
    .addOption(
      new Option('--contexts <tokens>', 'tokens before the decoded ones, or none')
        .argParser(numbers)
        .default([128, 4096, 8192], '128,4096,8192'),
    )
    .option('--streams <n>', 'sequences that are decoded at once; 1 skips this', positive, 8)
    .option('--no-answers', 'skip answers with a schema, penalties and log probabilities')
    .option('--rounds <n>', 'most rounds of each task, of which the median counts', positive, 7)
    .option('--minutes <n>', 'most minutes for a model', positive, 6)
    .option('--node <file>', 'the Node.js that runs the contenders', process.execPath)
    .option(
      '--peer <folder>',
      'a peer to compare with, such as bench/peers/node-llama-cpp; may be repeated',
      (folder: string, others: readonly string[]) => [...others, folder],
      [] as readonly string[],
    )
    .action((options: RuntimeOptions) => runRuntime(options));
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
