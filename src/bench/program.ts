/** The options and subcommands of `npm run bench`. */
import { Command, Option } from 'commander';
import { writeFileAtomic } from '../checkpoint/index.js';
import { type DeviceName, openDevice } from '../engine/index.js';
import { expectWritable } from '../platform/node/writable.js';
import { addAnswersCommand } from './answers-command.js';
import { addBrowserCommand } from './browser-command.js';
import { addDriftCommand } from './drift-command.js';
import { measureGeneration } from './generation-section.js';
import { addGpuCommand } from './gpu-command.js';
import { addLayersCommand } from './layers-command.js';
import { listOf } from './list-of.js';
import { type LoadResult, measureLoading } from './load-section.js';
import { describeMachine } from './machine.js';
import { addOpsCommand } from './ops-command.js';
import { measurePeak, type Peak } from './peak.js';
import { FULL, QUICK, SECTIONS, type Section } from './plan.js';
import { positive } from './positive.js';
import { generationText, highest, loadText, machineText, peakText, streamText, trainText } from './report.js';
import { addRuntimeCommand } from './runtime-command.js';
import { addServeCommand } from './serve-command.js';
import { measureStream, STREAMERS, type Streamer, type Stretch } from './stream-section.js';
import { measureTraining, type TrainResult } from './train-section.js';

interface Options {
  threads: number;
  device: DeviceName;
  only: readonly Section[];
  peer?: string;
  quick: boolean;
  json?: string;
}

async function run({ threads, device: deviceName, only, peer, quick, json }: Options): Promise<void> {
  if (json !== undefined) await expectWritable(json);
  const plan = quick ? QUICK : FULL;
  const wants = (section: Section): boolean => only.includes(section);
  const machine = describeMachine(deviceName, threads);
  say(machineText(machine));

  // The peak is always measured, since other sections are reported relative to it.
  const device = await openDevice(deviceName, { threads });
  const peaks: Peak[] = [];
  for (const size of plan.peak) peaks.push(await measurePeak(device, size));
  const peak = highest(peaks);
  say(peakText(peaks));

  let training: TrainResult | undefined;
  if (wants('train')) {
    training = await measureTraining(plan, { device: deviceName, threads, peer });
    say(trainText(training, peak));
  }
  const { size } = plan.generation;
  const generation = await measureGeneration(device, {
    ...plan.generation,
    ...(!wants('prefill') && { prefill: [] }),
    ...(!wants('decode') && { contexts: [] }),
  });
  if (wants('prefill')) say(generationText('prefill', generation.prefill, size, peak));
  if (wants('decode')) say(generationText('decode', generation.decode, size, peak));
  let loading: LoadResult | undefined;
  if (wants('load') && deviceName === 'cpu') {
    loading = await measureLoading(plan.load.name, plan.load.model(), threads);
    say(loadText(loading));
  }
  if (json !== undefined) {
    const results = { machine, peaks, training, ...generation, loading };
    await writeFileAtomic(json, `${JSON.stringify(results, null, 2)}\n`);
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n\n`);
}

interface StreamOptions {
  tokens: number;
  stretch: number;
  threads: number;
  seconds: number;
}

async function runStream(options: StreamOptions): Promise<void> {
  say(machineText(describeMachine('cpu', options.threads)));
  const streams = new Map<Streamer, Stretch[]>();
  for (const streamer of STREAMERS) {
    const stretches: Stretch[] = [];
    for await (const stretch of measureStream(streamer, options)) stretches.push(stretch);
    if (stretches.length > 0) streams.set(streamer, stretches);
  }
  say(streamText(streams));
}

/** The program `npm run bench`, with its subcommands. */
export function benchProgram(): Command {
  const program = new Command('bench')
    .description('measures this machine: matrix products, the training step, prefill, decode and loading')
    // Options after the name of a subcommand belong to the subcommand.
    .enablePositionalOptions()
    .option('--threads <n>', 'threads that compute', positive, 2)
    .addOption(new Option('--device <name>', 'what computes').choices(['cpu', 'webgpu']).default('cpu'))
    .addOption(
      new Option('--only <sections>', `some of ${SECTIONS.join(',')}; the peak is always measured`)
        .argParser(listOf(SECTIONS))
        .default(SECTIONS, 'all'),
    )
    .option('--peer <python>', 'a Python with torch that trains the same model, in alternating rounds')
    .option('--quick', 'tiny shapes, to test the command rather than the speed', false)
    .option('--json <file>', 'also write the results, in seconds, bytes and operations per second')
    .action((options: Options) => run(options));

  addRuntimeCommand(program);

  program
    .command('stream')
    .description('the shipped hybrid and a transformer of its size read a stream into one state')
    .option('--tokens <n>', 'tokens of the stream', positive, 1_000_000)
    .option('--stretch <n>', 'tokens per measurement', positive, 10_000)
    .option('--threads <n>', 'threads that compute', positive, 2)
    .option('--seconds <n>', 'stop each model after this many seconds', positive, 180)
    .action((options: StreamOptions) => runStream(options));

  addServeCommand(program);
  addOpsCommand(program);
  addLayersCommand(program);
  addDriftCommand(program);
  addAnswersCommand(program);
  addBrowserCommand(program);
  addGpuCommand(program);
  return program;
}
