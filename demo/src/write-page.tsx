/** A sheet of paper on which a person and the model write by turns, and what the model remembers of it. */
import { formatBytes } from '../../src/cli/format.js';
import { KeptModels } from '../../studio/src/hosts/kept-models.js';
import { besideTransformer, Growth, transformerBytes } from '../../studio/src/parts/growth.js';
import { report, reporting } from '../../studio/src/parts/status.js';
import { open, opened, openShipped } from './tab.js';
import {
  bytes,
  canWrite,
  draft,
  firstToken,
  forget,
  goTo,
  growth,
  LONGEST,
  length,
  openState,
  passages,
  places,
  running,
  saveState,
  startAgain,
  temperature,
  textOf,
  tokens,
  tokensPerSecond,
  write,
} from './write.js';

export function WritePage() {
  return (
    <div class="write">
      <Sheet />
      <aside>
        <Memory />
        <Places />
        <OtherModels />
      </aside>
    </div>
  );
}

function Sheet() {
  const isRunning = running.value !== undefined;
  const isBegun = passages.value.length > 0;
  return (
    <section class="sheet" aria-label="The text">
      <div class="text" aria-live="polite" aria-busy={isRunning}>
        {passages.value.map(({ by, text }, i) => (
          <span key={i} class={by}>
            {text}
          </span>
        ))}
        {isRunning && <span class="caret" />}
        {!isRunning && (
          <textarea
            aria-label={isBegun ? 'Write on yourself' : 'How the text begins'}
            placeholder={isBegun ? 'Write on yourself, or let the model…' : 'How does the text begin?'}
            rows={isBegun ? 1 : 4}
            value={draft.value}
            onInput={({ currentTarget }) => {
              draft.value = currentTarget.value;
            }}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || !(event.metaKey || event.ctrlKey)) return;
              event.preventDefault();
              write().catch(report);
            }}
          />
        )}
      </div>
      <footer>
        {isRunning ? (
          <button type="button" class="main" onClick={() => running.value?.abort()}>
            Stop
          </button>
        ) : (
          <button type="button" class="main" disabled={!canWrite.value} onClick={reporting(write)}>
            {isBegun ? 'Write on' : 'Write'}
          </button>
        )}
        <label>
          {length.value} tokens
          <input
            type="range"
            min={20}
            max={LONGEST}
            step={20}
            value={length.value}
            onInput={({ currentTarget }) => {
              length.value = currentTarget.valueAsNumber;
            }}
          />
        </label>
        <label>
          temperature {temperature.value.toFixed(1)}
          <input
            type="range"
            min={0}
            max={1.4}
            step={0.1}
            value={temperature.value}
            onInput={({ currentTarget }) => {
              temperature.value = currentTarget.valueAsNumber;
            }}
          />
        </label>
        {isBegun && !isRunning && (
          <button type="button" class="plain" onClick={reporting(startAgain)}>
            Start again
          </button>
        )}
      </footer>
    </section>
  );
}

function Memory() {
  const speed = tokensPerSecond.value;
  const { config, pattern = '' } = opened.value?.model.info ?? {};
  const last = growth.value.at(-1);
  const perToken = transformerBytes(pattern, Number(config?.hidden_size ?? 0));
  return (
    <section class="card" aria-labelledby="memory">
      <h2 id="memory">What it remembers</h2>
      <dl class="figures">
        <div>
          <dt>memory</dt>
          <dd>{bytes.value === 0 ? '–' : formatBytes(bytes.value)}</dd>
        </div>
        <div>
          <dt>of tokens</dt>
          <dd>{tokens.value.toLocaleString('en')}</dd>
        </div>
        <div>
          <dt>writes</dt>
          <dd>{speed === undefined ? '–' : `${speed.toFixed(0)} tokens/s`}</dd>
        </div>
        <div>
          <dt>first token</dt>
          <dd>{firstToken.value === undefined ? '–' : `${firstToken.value.toFixed(0)} ms`}</dd>
        </div>
      </dl>
      <Growth sizes={growth.value} perToken={perToken} />
      <p class="faint">
        A hybrid keeps a state of fixed size and a few tokens that it has chosen: its line stays flat, however
        long the text gets. {last && besideTransformer(last, perToken)}
      </p>
    </section>
  );
}

function Places() {
  if (places.value.length === 0) return null;
  const here = textOf(passages.value);
  return (
    <section class="card" aria-labelledby="places">
      <h2 id="places">Places to go back to</h2>
      <ol class="places">
        {places.value.map((place) => {
          const text = textOf(place.passages);
          return (
            <li key={place.state.id}>
              <button
                type="button"
                class="place"
                aria-current={text === here ? 'step' : undefined}
                disabled={running.value !== undefined}
                onClick={reporting(() => goTo(place))}
              >
                <span>…{text.slice(-46)}</span>
                <span class="faint">
                  {place.state.tokens.toLocaleString('en')} tokens, {formatBytes(place.state.bytes)}
                </span>
              </button>
              <button
                type="button"
                class="plain"
                aria-label={`Forget the place after ${place.state.tokens} tokens`}
                onClick={reporting(() => forget(place))}
              >
                Forget
              </button>
            </li>
          );
        })}
      </ol>
      <div class="row">
        <button type="button" onClick={reporting(saveState)}>
          Save as a file
        </button>
        <FileButton
          label="Open a file"
          accept=".safetensors,.state"
          onFiles={([file]) => (file ? openState(file) : Promise.resolve())}
        />
      </div>
      <p class="faint">
        Going back reads nothing again: each place is the model's exact state, as Node has it too. This
        browser keeps them for your next visit.
      </p>
    </section>
  );
}

/** Where another model is loaded from. */
export function OtherModels() {
  return (
    <section
      class="card drop"
      aria-labelledby="others"
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        if (event.dataTransfer) open('dropped', event.dataTransfer).catch(report);
      }}
    >
      <h2 id="others">Another model</h2>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          const name = String(new FormData(event.currentTarget).get('name')).trim();
          if (name !== '') open(name, name).catch(report);
        }}
      >
        <input
          name="name"
          aria-label="Repository or address"
          placeholder="owner/name, or an address"
          class="grow"
        />
        <button type="submit">Load</button>
      </form>
      <div class="row">
        <FileButton
          label="Open its files"
          multiple
          onFiles={(files) => (files.length > 0 ? open(nameOf(files), files) : Promise.resolve())}
        />
        {opened.value && opened.value.name !== 'sotu-hybrid' && (
          <button type="button" class="plain" onClick={reporting(openShipped)}>
            Back to sotu-hybrid
          </button>
        )}
      </div>
      <p class="faint">
        Or drop its folder, or a GGUF file, here. Nothing is loaded that you do not ask for.
      </p>
      <KeptModels />
    </section>
  );
}

/** What the files of a person are called together. */
function nameOf(files: readonly File[]): string {
  const gguf = files.find(({ name }) => name.endsWith('.gguf'));
  const folder = files[0]?.webkitRelativePath.split('/')[0];
  return gguf?.name ?? (folder || 'your model');
}

function FileButton({
  label,
  onFiles,
  ...rest
}: {
  label: string;
  accept?: string;
  multiple?: boolean;
  onFiles: (files: File[]) => Promise<void>;
}) {
  return (
    <label class="file">
      {label}
      <input
        type="file"
        class="hidden"
        {...rest}
        onChange={({ currentTarget }) => {
          onFiles([...(currentTarget.files ?? [])]).catch(report);
          currentTarget.value = '';
        }}
      />
    </label>
  );
}
