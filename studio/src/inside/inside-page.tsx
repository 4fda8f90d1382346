/** The inside page: what a model computes between the tokens of a text. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { connected } from '../parts/connection.js';
import { Layers } from '../parts/layers.js';
import { report, reporting } from '../parts/status.js';
import { AttributionView } from './attribution-view.js';
import { type Colouring, colourings } from './colourings.js';
import {
  canExplain,
  explain,
  layer,
  look,
  mixer,
  model,
  models,
  openInside,
  position,
  show,
  shown,
  source,
  trace,
  working,
} from './inside.js';
import { LayerStrip } from './layer-strip.js';
import { LensView } from './lens-view.js';
import { MixerView } from './mixer-view.js';
import { TokenRibbon } from './token-ribbon.js';
import { wordOf } from './words.js';

export function InsidePage() {
  useEffect(() => {
    if (!connected.value) return;
    openInside()
      .then(() => (trace.value || working.value ? undefined : look()))
      .catch(report);
  }, [connected.value]);
  return (
    <div class="inside">
      <SourceForm />
      <TraceView />
    </div>
  );
}

/** The view of a trace. */
export function TraceView() {
  const traced = trace.value;
  if (!traced) return null;
  return (
    <>
      <TextView />
      <AttributionView />
      <section aria-labelledby="layers">
        <h2 id="layers">
          Layers{' '}
          <span class="faint">
            {traced.model.type}: <Layers pattern={traced.model.pattern} letters />
          </span>
        </h2>
        <LayerStrip layers={traced.layers} shown={shown.value} onShow={show} />
        {layer.value && mixer.value && <MixerView />}
      </section>
      <LensView />
    </>
  );
}

function SourceForm() {
  const from = source.value;
  return (
    <form
      class="source"
      onSubmit={(event) => {
        event.preventDefault();
        reporting(look)();
      }}
    >
      {from.kind === 'text' ? (
        <textarea
          aria-label="Text to look into"
          rows={2}
          value={from.text}
          onInput={({ currentTarget }) => {
            source.value = { kind: 'text', text: currentTarget.value };
          }}
        />
      ) : (
        <p class="from-chat">
          A conversation of {from.messages.length} messages, as the model reads it.{' '}
          <button
            type="button"
            class="plain"
            onClick={() => {
              source.value = { kind: 'text', text: '' };
            }}
          >
            Type a text instead
          </button>
        </p>
      )}
      {models.value.length > 1 && (
        <select
          aria-label="Model"
          value={model.value ?? ''}
          onChange={({ currentTarget }) => {
            model.value = currentTarget.value;
          }}
        >
          {models.value.map(({ id }) => (
            <option key={id}>{id}</option>
          ))}
        </select>
      )}
      <button type="submit" class="main" disabled={working.value !== undefined}>
        Look inside
      </button>
      <span class="faint" role="status">
        {working.value && `${working.value}…`}
      </span>
    </form>
  );
}

/** The current colouring. */
export const colouring = signal<Colouring['key']>('selection');

function TextView() {
  const traced = trace.value!;
  const choices = colourings();
  const chosen = choices.find(({ key }) => key === colouring.value) ?? choices[0]!;
  const token = traced.tokens[position.value]!;
  return (
    <section aria-labelledby="text">
      <header class="with-choice">
        <h2 id="text">
          The text <span class="faint">{traced.tokens.length.toLocaleString('en')} tokens</span>
        </h2>
        <label>
          coloured by{' '}
          <select
            value={chosen.key}
            onChange={({ currentTarget }) => {
              colouring.value = currentTarget.value as Colouring['key'];
            }}
          >
            {choices.map(({ key, name }) => (
              <option key={key} value={key}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </header>
      <TokenRibbon
        tokens={traced.tokens}
        values={chosen.values}
        meaning={chosen.meaning}
        {...(chosen.shades && { shades: chosen.shades })}
        {...(chosen.marks && { marks: chosen.marks })}
        position={position.value}
        onPosition={(at) => {
          position.value = at;
        }}
      />
      <p class="faint">
        At <b>{wordOf(token)}</b>, token {position.value}
        {chosen.note === undefined ? '' : `: ${chosen.note}`}.{' '}
        {canExplain(position.value) && (
          <button type="button" class="plain" onClick={reporting(() => explainAt(position.value))}>
            What did it draw on?
          </button>
        )}
        {canExplain(traced.tokens.length) && (
          <button type="button" class="plain" onClick={reporting(() => explainAt(traced.tokens.length))}>
            What comes next, and why?
          </button>
        )}
      </p>
    </section>
  );
}

async function explainAt(place: number): Promise<void> {
  await explain(place);
  colouring.value = 'attribution';
}
