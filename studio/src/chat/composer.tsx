/** The message field and the sampling settings. */
import { useEffect, useRef } from 'preact/hooks';
import { reporting } from '../parts/status.js';
import { busy, say, stop } from './answering.js';
import { lanes, models, sampling } from './lanes.js';
import type { Sampling } from './stored-chat.js';

/** The key of the unsent message in this tab, which stays when another page is shown or the page is loaded again. */
const DRAFT = 'heddle.draft';

export function Composer() {
  const field = useRef<HTMLTextAreaElement>(null);
  const send = (): void => {
    const said = field.current?.value ?? '';
    if (said.trim() === '' || busy.value || lanes.value.length === 0) return;
    field.current!.value = '';
    sessionStorage.removeItem(DRAFT);
    fitToText(field.current!);
    reporting(() => say(said))();
  };
  useEffect(() => {
    fitToText(field.current!);
    addEventListener('keydown', stopByEscape);
    return () => removeEventListener('keydown', stopByEscape);
  }, []);
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
          defaultValue={sessionStorage.getItem(DRAFT) ?? ''}
          onInput={({ currentTarget }) => {
            sessionStorage.setItem(DRAFT, currentTarget.value);
            fitToText(currentTarget);
          }}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        {/* Two buttons, since a button that changes its function during a click would send the draft. */}
        {busy.value ? (
          <button
            key="stop"
            type="button"
            class="main"
            title="Stop (Esc)"
            onClick={() => {
              stop();
              field.current?.focus();
            }}
          >
            Stop
          </button>
        ) : (
          <button key="send" type="submit" class="main" disabled={lanes.value.length === 0}>
            Send
          </button>
        )}
      </div>
      <Settings />
    </form>
  );
}

/** Escape stops the answers, unless it closes a dialog. */
function stopByEscape(event: KeyboardEvent): void {
  if (event.key === 'Escape' && busy.value && !document.querySelector('dialog[open]')) stop();
}

function Settings() {
  const { temperature, topP, maxTokens, seed, system } = sampling.value;
  const open = new Set(lanes.value.map(({ model }) => model));
  const chats = models.value?.some(({ id, heddle }) => open.has(id) && heddle.chat);
  const told = [
    ...(temperature === undefined ? [] : [`temperature ${temperature}`]),
    ...(topP === undefined ? [] : [`top p ${topP}`]),
    `up to ${maxTokens.toLocaleString('en')} tokens`,
    ...(seed === undefined ? [] : [`seed ${seed}`]),
    ...(chats && system.trim() !== '' ? ['with a system prompt'] : []),
  ];
  return (
    <details>
      <summary>Settings: {told.join(', ')}</summary>
      <div class="settings">
        <Setting label="Temperature" name="temperature" empty="default" min={0} max={2} step={0.1} />
        <Setting label="Top p" name="topP" empty="default" min={0.05} max={1} step={0.05} />
        <Setting label="Longest answer, tokens" name="maxTokens" min={1} max={131072} step={1} />
        <Setting label="Seed" name="seed" empty="any" min={0} max={2 ** 31 - 1} step={1} />
        {chats && (
          <label class="system">
            System prompt
            <textarea
              rows={2}
              placeholder="What the model is told before a conversation begins"
              value={system}
              onChange={({ currentTarget }) => {
                sampling.value = { ...sampling.value, system: currentTarget.value };
              }}
            />
          </label>
        )}
      </div>
    </details>
  );
}

/** A number field; with `empty`, the meaning of an empty field, it is optional. */
function Setting({
  label,
  name,
  empty,
  ...range
}: {
  label: string;
  name: Exclude<keyof Sampling, 'system'>;
  empty?: string;
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
        placeholder={empty ?? ''}
        title={empty === 'default' ? "Empty: the model's own" : undefined}
        {...range}
        onChange={({ currentTarget }) => {
          const value = currentTarget.valueAsNumber;
          if (Number.isNaN(value) ? empty !== undefined : currentTarget.checkValidity()) {
            sampling.value = { ...sampling.value, [name]: Number.isNaN(value) ? undefined : value };
          } else currentTarget.value = String(sampling.value[name] ?? '');
        }}
      />
    </label>
  );
}

/** Fits the height to the text, up to a limit of the style sheet. */
function fitToText(field: HTMLTextAreaElement): void {
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight}px`;
}
