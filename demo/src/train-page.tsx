/** A model of one's own text, learned in this tab while one watches. */
import { useEffect } from 'preact/hooks';
import { formatRate } from '../../src/cli/format.js';
import { type Line, Plot } from '../../studio/src/parts/plot.js';
import { report, reporting } from '../../studio/src/parts/status.js';
import {
  begin,
  downloadTrained,
  goOn,
  kept,
  listRuns,
  log,
  name,
  openTrained,
  remove,
  running,
  show,
  shown,
  steps,
  text,
  useExample,
} from './train.js';

export function TrainPage() {
  useEffect(() => {
    listRuns().catch(report);
  }, []);
  return (
    <div class="train">
      <div>
        <TextForm />
        <Kept />
      </div>
      <Progress />
    </div>
  );
}

/** Fewer characters teach nothing. */
const LEAST = 5000;

function TextForm() {
  const isRunning = running.value !== undefined;
  return (
    <form
      class="card"
      onSubmit={(event) => {
        event.preventDefault();
        begin().catch(report);
      }}
    >
      <h2>Learn a text</h2>
      <p class="faint">
        Paste some pages: a novel, your notes, a language. A small hybrid (four Mamba-2 layers, one of
        selective attention) learns to go on with them, by backpropagation in WebAssembly.
      </p>
      <textarea
        aria-label="The text to learn"
        rows={9}
        placeholder="Paste a text of a few thousand words…"
        value={text.value}
        disabled={isRunning}
        onInput={({ currentTarget }) => {
          text.value = currentTarget.value;
        }}
      />
      <div class="row">
        <span class="faint grow">{text.value.length.toLocaleString('en')} characters</span>
        <button type="button" class="plain" disabled={isRunning} onClick={reporting(useExample)}>
          Take Moby-Dick
        </button>
      </div>
      <div class="row">
        <label class="grow">
          called
          <input
            value={name.value}
            required
            disabled={isRunning}
            onInput={({ currentTarget }) => {
              name.value = currentTarget.value;
            }}
          />
        </label>
        <label>
          steps
          <input
            type="number"
            min={10}
            max={20000}
            value={steps.value}
            disabled={isRunning}
            onInput={({ currentTarget }) => {
              steps.value = currentTarget.valueAsNumber || 300;
            }}
          />
        </label>
      </div>
      <div class="row">
        {isRunning ? (
          <button type="button" class="main" onClick={() => running.value?.abort()}>
            Stop and save
          </button>
        ) : (
          <button type="submit" class="main" disabled={text.value.length < LEAST}>
            Train
          </button>
        )}
        {!isRunning && shown.value !== undefined && log.value.saved !== undefined && (
          <button type="button" onClick={reporting(() => goOn(shown.value!))}>
            Go on for {steps.value} steps
          </button>
        )}
      </div>
    </form>
  );
}

function Kept() {
  if (kept.value.length === 0) return null;
  return (
    <section class="card" aria-labelledby="kept">
      <h2 id="kept">Trained in this browser</h2>
      <ul class="kept">
        {kept.value.map((run) => (
          <li key={run}>
            <button
              type="button"
              class="plain name"
              aria-label={`Show ${run}`}
              aria-pressed={shown.value === run}
              disabled={!!running.value}
              onClick={reporting(() => show(run))}
            >
              {run}
            </button>
            <button type="button" disabled={!!running.value} onClick={reporting(() => openTrained(run))}>
              Write with it
            </button>
            <button
              type="button"
              aria-label={`Go on with ${run}`}
              disabled={!!running.value}
              onClick={reporting(() => goOn(run))}
            >
              Go on
            </button>
            <button type="button" class="plain" onClick={reporting(() => downloadTrained(run))}>
              Download
            </button>
            <button
              type="button"
              class="plain"
              aria-label={`Remove ${run}`}
              disabled={!!running.value}
              onClick={reporting(() => remove(run))}
            >
              Remove
            </button>
          </li>
        ))}
      </ul>
      <p class="faint">
        The download is a folder (tar) that Heddle in Node opens: model, tokenizer, optimizer and log.
      </p>
    </section>
  );
}

function Progress() {
  const { step, loss, evaluated, validation, tokensPerSecond, samples } = log.value;
  if (shown.value === undefined) {
    return (
      <div class="progress empty">
        <p>Here the loss falls, and samples become words.</p>
      </div>
    );
  }
  const training = { name: 'training', colour: 'series-0', x: step };
  const lines: Line[] = [
    { ...training, y: loss, style: 'shadow' },
    { ...training, y: smoothed(loss) },
    { name: 'held-out text', colour: 'series-1', x: evaluated, y: validation, style: 'points' },
  ];
  return (
    <div class="progress">
      <dl class="figures card">
        <div>
          <dt>step</dt>
          <dd>{(step.at(-1) ?? 0).toLocaleString('en')}</dd>
        </div>
        <div>
          <dt>loss</dt>
          <dd>{loss.length > 0 ? `${smoothed(loss).at(-1)!.toFixed(3)} nats` : '–'}</dd>
        </div>
        <div>
          <dt>held out</dt>
          <dd>{validation.length > 0 ? `${validation.at(-1)!.toFixed(3)} nats` : '–'}</dd>
        </div>
        <div>
          <dt>learns</dt>
          <dd>{tokensPerSecond === undefined ? '–' : formatRate(tokensPerSecond)}</dd>
        </div>
      </dl>
      <section class="card">
        <Plot title="Loss" unit="nats/token" lines={lines} legend={false} />
      </section>
      <section class="card samples" aria-labelledby="samples">
        <h2 id="samples">What it writes</h2>
        {samples.length === 0 && <p class="faint">The first sample comes before the first step.</p>}
        {samples.map((sample) => (
          <figure key={sample.step}>
            <figcaption>step {sample.step.toLocaleString('en')}</figcaption>
            <p>
              <b>{sample.prompt}</b>
              {sample.text}
            </p>
          </figure>
        ))}
      </section>
    </div>
  );
}

/** The mean of each loss and the nine before it. */
function smoothed(values: readonly number[]): number[] {
  return values.map((_, i) => {
    const from = Math.max(0, i - 9);
    return values.slice(from, i + 1).reduce((a, b) => a + b, 0) / (i + 1 - from);
  });
}
