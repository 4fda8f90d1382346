/** The results of the runtime benchmark as text. */
import { evennessOf, quantile } from './quantile.js';
import type { Measured, RuntimeResult } from './runtime-section.js';
import { type RuntimeTask, taskName } from './runtime-tasks.js';
import { decimal, megabytes, millions, milliseconds, percent, table } from './table.js';

const middle = (values: readonly number[]): number => quantile(values, 0.5);

/**
 * Formats the results of one model. Prefill is compared with the peak of matrix products (float32; quantized products may exceed it), decoding
 * with the time of reading weights and states, and answers with plain ones. `flops` is the peak in operations per second.
 */
export function runtimeText(result: RuntimeResult, tasks: readonly RuntimeTask[], flops: number): string {
  const { shape, bits, parameters, weightBytes, minutes, contenders, bandwidth } = result;
  const [ours, ...peers] = contenders as readonly [Measured, ...Measured[]];
  const rounds = bandwidth.length;
  const plain = tasks.findIndex((task) => task.kind === 'answer' && task.how === 'plain');
  const rows = tasks.map((task, i) => [
    `  ${taskName(task)}`,
    decimal(middle(ratesOf(ours, i))),
    shareOf(result, task, i, flops),
    task.kind === 'answer' ? timesText(ratiosOf(ours, i, ours, plain)) : '',
    ...peers.flatMap((peer) => [
      ratesOf(peer, i).length === 0 ? '' : decimal(middle(ratesOf(peer, i))),
      timesText(ratiosOf(ours, i, peer, i)),
    ]),
  ]);
  const compared = (name: string, of: (measured: Measured) => number, text: (value: number) => string) => [
    `  ${name}`,
    text(of(ours)),
    '',
    '',
    ...peers.flatMap((peer) => [text(of(peer)), timesText([of(ours) / of(peer)])]),
  ];
  const peaks = (name: string, kind: RuntimeTask['kind']) =>
    peakOf(ours, tasks, kind) > 0 ? [compared(name, (one) => peakOf(one, tasks, kind), megabytes)] : [];
  return [
    `runtime: ${shape}, ${bits === 16 ? 'bfloat16' : `${bits} bits`}, ${millions(parameters)} parameters in ${megabytes(weightBytes)}; medians of ${rounds} alternating rounds, ${minutes.toFixed(1)} minutes; memory is read at ${(middle(bandwidth) / 1e9).toFixed(1)} GB/s`,
    table([
      ['  tokens/s', 'heddle', 'of the limit', 'of plain', ...peers.flatMap(({ name }) => [name, 'ratio'])],
      ...rows,
      compared('held once loaded', ({ heldBytes }) => heldBytes, megabytes),
      ...peaks('peak of reading', 'prefill'),
      ...peaks('peak with writing', 'decode'),
      compared('loading', ({ seconds }) => seconds, milliseconds),
    ]),
    ...gapsText(contenders, tasks),
  ].join('\n');
}

function ratesOf({ answers }: Measured, task: number): number[] {
  return (answers[task] ?? []).map(({ tokensPerSecond }) => tokensPerSecond);
}

/** The ratios of two contenders by round. */
function ratiosOf(one: Measured, i: number, other: Measured, j: number): number[] {
  const others = ratesOf(other, j);
  return ratesOf(one, i).flatMap((rate, round) => (others[round] ? [rate / others[round]] : []));
}

function timesText(ratios: readonly number[]): string {
  return ratios.length === 0 ? '' : `${middle(ratios).toFixed(2)} x`;
}

function shareOf(
  { contenders, parameters, bandwidth, bytesPerToken }: RuntimeResult,
  task: RuntimeTask,
  index: number,
  flops: number,
): string {
  const rates = ratesOf(contenders[0]!, index);
  if (task.kind === 'prefill') return percent((2 * parameters * middle(rates)) / flops);
  if (task.kind !== 'decode' || task.streams > 1) return '';
  return percent(middle(rates.map((rate, round) => (bytesPerToken[index]! * rate) / bandwidth[round]!)));
}

/** The peak memory until the end of the first round of such tasks with one sequence, since not all contenders run the later tasks; 0 if there are none. */
function peakOf({ answers }: Measured, tasks: readonly RuntimeTask[], kind: RuntimeTask['kind']): number {
  const peaks = tasks.flatMap((task, i) =>
    task.kind === kind && !(task.kind === 'decode' && task.streams > 1)
      ? (answers[i]?.slice(0, 1).map(({ peakBytes }) => peakBytes) ?? [])
      : [],
  );
  return Math.max(0, ...peaks);
}

/** Formats the gaps between tokens, for contenders that report them. */
function gapsText(contenders: readonly Measured[], tasks: readonly RuntimeTask[]): string[] {
  const rows = tasks.flatMap((task, i) =>
    contenders.flatMap(({ name, answers }) => {
      const gaps = (answers[i] ?? []).flatMap(({ gaps = [] }) => gaps);
      if (gaps.length === 0) return [];
      const { median, p99 } = evennessOf(gaps);
      return [
        [
          `  ${taskName(task)}, ${name}`,
          String(gaps.length),
          `${median.toFixed(1)} ms`,
          `${p99.toFixed(1)} ms`,
          `${(p99 / median).toFixed(2)} x`,
        ],
      ];
    }),
  );
  return rows.length === 0
    ? []
    : [table([['  gaps between tokens', '', 'median', 'p99', 'p99 of it'], ...rows])];
}
