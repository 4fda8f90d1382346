/** Training runs side by side, updated while they run. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { formatCount, formatRate } from '../../../src/cli/format.js';
import type { TrainingRun } from '../../../src/server/studio-api.js';
import { connected } from '../parts/connection.js';
import { Layers } from '../parts/layers.js';
import { compact, type Line, Plot } from '../parts/plot.js';
import { report } from '../parts/status.js';
import { beginning, catchUp, compare, compared, follow, type Log, logs, runs, smoothed } from './runs.js';

interface Shown {
  readonly run: TrainingRun;
  readonly log: Log;
  /** A colour variable of the style sheet. */
  readonly colour: string;
}

export function RunsPage() {
  useEffect(() => follow(report), []);
  const found = runs.value;
  if (!found) return <p class="page faint">{connected.value ? 'Looking for runs…' : ''}</p>;
  if (found.length === 0) return <NoRuns />;
  const shown = found.flatMap((run): Shown[] => {
    const colour = compared.value.get(run.id);
    const log = logs.value[run.id];
    return colour === undefined || !log ? [] : [{ run, log, colour: `series-${colour}` }];
  });
  return (
    <div class="runs">
      <RunList found={found} />
      <div class="results">
        <Summary shown={shown} />
        <Plots shown={shown} />
        <Samples shown={shown} />
      </div>
    </div>
  );
}

function NoRuns() {
  return (
    <div class="page">
      <p>There are no training runs yet. Start one in a terminal; it appears here within seconds:</p>
      <pre>{beginning.value}</pre>
    </div>
  );
}

function RunList({ found }: { found: readonly TrainingRun[] }) {
  return (
    <fieldset class="run-list">
      <legend>Runs</legend>
      {found.map(({ id, name, pattern, parameters, live }) => {
        const colour = compared.value.get(id);
        return (
          <label key={id} class={`run ${colour === undefined ? '' : `series-${colour}`}`}>
            <input
              type="checkbox"
              checked={colour !== undefined}
              onChange={({ currentTarget: { checked } }) => {
                compare(id, checked);
                if (checked) catchUp(id).catch(report);
              }}
            />
            <span>
              <strong>{name}</strong>
              {live && <span class="live">live</span>}
              <span class="sub">
                {pattern === undefined ? 'no checkpoint yet' : <Layers pattern={pattern} />}
                {parameters === undefined ? '' : ` · ${formatCount(parameters)} parameters`}
              </span>
            </span>
          </label>
        );
      })}
    </fieldset>
  );
}

function Summary({ shown }: { shown: readonly Shown[] }) {
  if (shown.length === 0) return <p class="faint">Choose runs to compare them.</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
    <section class="scroll" tabIndex={0} aria-label="Where the runs stand">
      <table class="summary">
        <caption class="hidden">Where the runs stand</caption>
        <thead>
          <tr>
            <th scope="col">run</th>
            <th scope="col">step</th>
            <th scope="col">loss, nats/token</th>
            <th scope="col">validation perplexity</th>
            <th scope="col">best</th>
            <th scope="col">speed</th>
          </tr>
        </thead>
        <tbody>
          {shown.map(({ run, log: { steps, evaluations }, colour }) => {
            const loss = smoothed(steps.loss).at(-1);
            const best = evaluations.reduce(
              (least, { perplexity }) => Math.min(least, perplexity ?? least),
              Infinity,
            );
            return (
              <tr key={run.id} class={colour}>
                <th scope="row">{run.name}</th>
                <td>{steps.step.at(-1)?.toLocaleString('en') ?? '0'}</td>
                <td>{loss?.toFixed(3) ?? '–'}</td>
                <td>{evaluations.at(-1)?.perplexity?.toFixed(2) ?? '–'}</td>
                <td>{Number.isFinite(best) ? best.toFixed(2) : '–'}</td>
                <td>{steps.step.length > 0 ? formatRate(median(steps.tokensPerSecond.slice(-50))) : '–'}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Plots({ shown }: { shown: readonly Shown[] }) {
  const ofSteps = (key: 'loss' | 'learningRate' | 'tokensPerSecond', smooth: boolean): Line[] =>
    shown.flatMap(({ run, log: { steps }, colour }) => {
      const line = { name: run.name, colour, x: steps.step };
      if (!smooth) return [{ ...line, y: steps[key] }];
      return [
        { ...line, y: steps[key], style: 'shadow' as const },
        { ...line, y: smoothed(steps[key]) },
      ];
    });
  const perplexity = shown.map(({ run, log: { evaluations }, colour }): Line => {
    // The perplexity of new weights is about the size of the vocabulary and would compress the rest of the plot.
    const told = evaluations.filter(({ step, perplexity }) => {
      return perplexity !== undefined && (step > 0 || evaluations.length <= 2);
    });
    const x = told.map(({ step }) => step);
    return { name: run.name, colour, x, y: told.map(({ perplexity }) => perplexity!), style: 'points' };
  });
  return (
    <div class="plots">
      <Plot title="Training loss" unit="nats/token" lines={ofSteps('loss', true)} group="runs" />
      <Plot title="Validation perplexity" unit="held-out text" lines={perplexity} logarithmic group="runs" />
      <Plot title="Speed" unit="tokens/s" lines={ofSteps('tokensPerSecond', true)} group="runs" />
      <Plot
        title="Learning rate"
        unit="per step"
        lines={ofSteps('learningRate', false)}
        group="runs"
        format={compact}
      />
    </div>
  );
}

/** The evaluation whose samples are shown, counted back from the last one. */
const back = signal(0);

function Samples({ shown }: { shown: readonly Shown[] }) {
  const steps = [...new Set(shown.flatMap(({ log }) => log.samples.map(({ step }) => step)))].sort(
    (a, b) => a - b,
  );
  const place = Math.max(0, steps.length - 1 - back.value);
  const step = steps[place];
  if (step === undefined) return null;
  return (
    <section class="samples" aria-labelledby="samples">
      <header>
        <h2 id="samples">What they write</h2>
        <label>
          at step {step.toLocaleString('en')}
          <input
            type="range"
            min={0}
            max={steps.length - 1}
            value={place}
            aria-valuetext={`step ${step}`}
            onInput={({ currentTarget }) => {
              back.value = steps.length - 1 - currentTarget.valueAsNumber;
            }}
          />
        </label>
      </header>
      <div class="columns">
        {shown.flatMap(({ run, log, colour }) => {
          const sample = log.samples.findLast((each) => each.step <= step);
          return sample
            ? [
                <figure key={run.id} class={colour}>
                  <figcaption>{run.name}</figcaption>
                  <p>
                    <b>{sample.prompt}</b>
                    {sample.text}
                  </p>
                </figure>,
              ]
            : [];
        })}
      </div>
    </section>
  );
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
