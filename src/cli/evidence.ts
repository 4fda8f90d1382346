/** `heddle evidence`: measures what designs cost and what they can do, and writes the page about it. */
import { type Command, Option } from 'commander';
import { positive } from '../bench/positive.js';
import { heddleCall } from '../command-line.js';
import { type DeviceName, openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  benchOf,
  Findings,
  gather,
  readFindings,
  SECTIONS,
  takeFindings,
  type Work,
  writePage,
} from '../evidence/index.js';
import { numbersTold } from './evidence-numbers.js';
import { say } from './follow-run.js';
import { formatDuration, table } from './format.js';
import { abortedByPerson } from './interrupt.js';
import { expectPrecision, precisionOption, threadsOption, trainingDeviceOption } from './loading-options.js';
import { each, number } from './options.js';

interface EvidenceFlags {
  out?: string;
  quick: boolean;
  section?: string[];
  only?: string[];
  list: boolean;
  take?: string[];
  minutes?: number;
  jobs: number;
  device: DeviceName;
  threads?: number;
  precision?: 'bfloat16' | 'float32';
  work?: string;
}

const NAMES = SECTIONS.map(({ name }) => name);

/** Options and action of `heddle evidence`. */
export function configure(command: Command): void {
  command
    .option(
      '-o, --out <folder>',
      'where the findings and the page go (default: docs/evidence, or runs/evidence with --quick)',
    )
    .option('--quick', 'smaller models and less of everything: some minutes on two cores', false)
    .option('--section <name>', `only this one of ${NAMES.join(', ')}; may be given several times`, each)
    .option(
      '--only <text>',
      'only work with this in its name; may be given several times, and is done in this order',
      each,
    )
    .option('--list', 'print the names of the work, and do none', false)
    .addOption(
      new Option(
        '--take <file>',
        "measure nothing: take over what another machine's findings.json has of today's settings, unless it was measured later here, and write the page; may be given several times",
      )
        .argParser(each)
        .conflicts(['section', 'only', 'list', 'minutes']),
    )
    .option('--minutes <n>', 'end after so many minutes; the next run goes on', number)
    .option('--jobs <n>', 'processes at a time, for what measures no time', positive, 1)
    .addOption(trainingDeviceOption())
    .addOption(threadsOption())
    .addOption(precisionOption())
    .addOption(new Option('--work <name>', 'do this piece of work, and print its findings').hideHelp())
    .action(run);
}

async function run(flags: EvidenceFlags): Promise<void> {
  const { quick } = flags;
  expectPrecision(flags.precision, flags.device);
  const out = flags.out ?? (quick ? 'runs/evidence' : 'docs/evidence');
  const works = worksOf(flags);
  if (flags.list) {
    process.stdout.write(works.map(({ name }) => `${name}\n`).join(''));
    return;
  }
  if (flags.work !== undefined) return doWork(works, flags.work, out, flags);
  const others = flags.take && (await Promise.all(flags.take.map(readFindings))).flat();
  const findings = await Findings.open(out);
  try {
    if (others) {
      const all = SECTIONS.flatMap((section) => section.works({ quick }));
      const { taken, outdated, known } = await takeFindings(findings, others, all);
      say(
        `of ${others.length} findings ${taken} were taken over, ${known} are here already, and ${outdated} are of settings or tasks that are gone`,
      );
    } else await gatherAll(works, findings, flags);
    await writePage(out, findings, SECTIONS, { quick });
    say(`the page is ${out}/README.md`);
  } finally {
    await findings.close();
  }
}

function worksOf({ quick, section: asked = NAMES, only = [], device }: EvidenceFlags): Work[] {
  const unknown = asked.find((name) => !NAMES.includes(name));
  if (unknown !== undefined)
    throw new ConfigError(`there is no section '${unknown}'; there are ${NAMES.join(', ')}`);
  const works = SECTIONS.filter(({ name }) => asked.includes(name)).flatMap((section) =>
    section.works({ quick }),
  );
  const possible = works.filter(({ devices }) => !devices || devices.includes(device));
  if (only.length === 0) return possible;
  const none = only.find((text) => !possible.some(({ name }) => name.includes(text)));
  if (none !== undefined)
    throw new ConfigError(
      `there is no work on ${device} with '${none}' in its name: '${heddleCall('evidence', '--list')}' lists the names`,
    );
  // In the order in which they are asked for.
  return [...new Set(only.flatMap((text) => possible.filter(({ name }) => name.includes(text))))];
}

async function gatherAll(works: readonly Work[], findings: Findings, flags: EvidenceFlags): Promise<void> {
  const { minutes, jobs } = flags;
  const interrupt = abortedByPerson();
  const time = minutes === undefined ? [] : [AbortSignal.timeout(minutes * 60_000)];
  const signal = AbortSignal.any([interrupt, ...time]);
  const started = performance.now();
  const failures: string[] = [];
  const passed = (): string => formatDuration((performance.now() - started) / 1000);
  say(`${works.length} pieces of work on ${flags.device}, ${jobs} at a time`);
  await gather({
    works,
    findings,
    jobs,
    signal,
    call: ({ name }) => [
      process.execPath,
      ...process.execArgv,
      process.argv[1]!,
      'evidence',
      '--work',
      name,
      ...sameFlags(flags),
    ],
    onFinding(finding) {
      say(`${passed()}  ${finding.key} (${formatDuration(finding.seconds)}): ${numbersTold(finding)}`);
    },
    onFailure({ name }, message) {
      failures.push(name);
      say(`${passed()}  ${name} failed: ${message}`);
    },
  });
  if (interrupt.aborted) process.exitCode = 130;
  else if (signal.aborted) say(`the time is over after ${passed()}: the same command goes on`);
  if (failures.length > 0) {
    say(table(failures.map((name) => ['failed', name])));
    process.exitCode = 1;
  }
}

/** What the process of a piece of work must be told, too. */
function sameFlags({ quick, out, device, threads, precision, jobs }: EvidenceFlags): string[] {
  return [
    ...(quick ? ['--quick'] : []),
    ...(out === undefined ? [] : ['--out', out]),
    ...['--device', device, '--jobs', String(jobs)],
    ...(threads === undefined ? [] : ['--threads', String(threads)]),
    ...(precision === undefined ? [] : ['--precision', precision]),
  ];
}

async function doWork(
  works: readonly Work[],
  name: string,
  out: string,
  flags: EvidenceFlags,
): Promise<void> {
  const work = works.find((each) => each.name === name);
  if (!work) throw new ConfigError(`there is no work '${name}'`);
  const { quick, device: deviceName, threads, precision, jobs } = flags;
  const before = await Findings.read(out);
  const opened = { ...(precision !== undefined && { precision }), ...(threads !== undefined && { threads }) };
  const device = await openDevice(deviceName, {
    ...opened,
    // Processes beside each other share a GPU's memory.
    ...(jobs > 1 && !work.alone && { memoryFraction: 0.9 / jobs }),
  });
  const words = [
    ...['evidence', ...(quick ? ['--quick'] : []), '--only', name, '--device', deviceName],
    ...Object.entries(opened).flatMap(([flag, value]) => [`--${flag}`, String(value)]),
  ];
  const bench = benchOf({
    work,
    device,
    opened,
    command: heddleCall(...words).replace(/^.*? evidence /, 'heddle evidence '),
    found: (wanted) => before.found(wanted),
    onFinding: (finding) => void process.stdout.write(`${JSON.stringify(finding)}\n`),
  });
  await work.run(bench);
  await device.dispose();
}
