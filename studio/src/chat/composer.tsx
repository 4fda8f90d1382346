/** Where one writes, and how the models choose their words. */
import { useRef } from 'preact/hooks';
import { reporting } from '../parts/status.js';
import { busy, lanes, type Sampling, sampling, say, stop } from './chat.js';

export function Composer() {
  const field = useRef<HTMLTextAreaElement>(null);
  const send = (): void => {
    const said = field.current?.value ?? '';
    if (said.trim() === '' || busy.value || lanes.value.length === 0) return;
    field.current!.value = '';
    fitToText(field.current!);
    reporting(() => say(said))();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="field">
        <textarea
          ref={field}
          rows={1}
          aria-label="Say something"
          placeholder={lanes.value.length > 1 ? 'Say something to all of them' : 'Say something'}
          onInput={(event) => fitToText(event.currentTarget)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        {busy.value ? (
          <button type="button" class="main" onClick={stop}>
            Stop
          </button>
        ) : (
          <button type="submit" class="main" disabled={lanes.value.length === 0}>
            Send
          </button>
        )}
      </div>
      <details>
        <summary>
          Temperature {sampling.value.temperature}, up to {sampling.value.maxTokens} tokens
          {sampling.value.seed === undefined ? '' : `, seed ${sampling.value.seed}`}
        </summary>
        <div class="settings">
          <Setting label="Temperature" name="temperature" min={0} max={2} step={0.1} />
          <Setting label="Top p" name="topP" min={0.05} max={1} step={0.05} />
          <Setting label="Longest answer, tokens" name="maxTokens" min={1} max={8192} step={1} />
          <Setting label="Seed" name="seed" min={0} max={2 ** 31 - 1} step={1} />
        </div>
      </details>
    </form>
  );
}

function Setting({
  label,
  name,
  ...range
}: {
  label: string;
  name: keyof Sampling;
  min: number;
  max: number;
  step: number;
}) {
  return (
    <label>
      {label}
      <input
        type="number"
        value={sampling.value[name] ?? ''}
        placeholder={name === 'seed' ? 'any' : ''}
        {...range}
        onChange={({ currentTarget }) => {
          const value = currentTarget.valueAsNumber;
          // An empty seed is any seed; everything else keeps its value when it is given none.
          if (Number.isNaN(value) ? name === 'seed' : currentTarget.checkValidity()) {
            sampling.value = { ...sampling.value, [name]: Number.isNaN(value) ? undefined : value };
          } else currentTarget.value = String(sampling.value[name] ?? '');
        }}
      />
    </label>
  );
}

/** As high as its text, up to a limit of the style sheet. */
function fitToText(field: HTMLTextAreaElement): void {
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight}px`;
}
