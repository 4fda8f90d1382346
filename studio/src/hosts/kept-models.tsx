/** The list of models stored in this browser, which the user can delete. */
import { signal } from '@preact/signals';
import type { KeptModel } from '../../../src/browser/index.js';
import { formatBytes } from '../../../src/cli/format.js';
import { confirmed } from '../parts/confirmation.js';
import { reporting } from '../parts/status.js';
import { library } from './tab.js';

const kept = signal<readonly KeptModel[] | undefined>(undefined);

async function list(): Promise<void> {
  kept.value = await (await library()).keptModels();
}

/** The list is loaded when it is opened, so that a visit without models in the tab does not load the library. */
export function KeptModels() {
  return (
    <details
      class="kept-models"
      onToggle={({ currentTarget }) => {
        if (currentTarget.open) reporting(list)();
      }}
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return;
        // It stops no answer.
        event.stopPropagation();
        event.currentTarget.open = false;
        event.currentTarget.querySelector('summary')!.focus();
      }}
    >
      <summary>Stored models</summary>
      <div>
        {kept.value?.length === 0 && (
          <p class="faint">None: what is loaded over the network will be kept here.</p>
        )}
        <ul>
          {kept.value?.map((model) => (
            <li key={model.source}>
              <span>{nameOf(model)}</span>
              <span class="faint">{sizeOf(model)}</span>
              <button
                type="button"
                class="plain"
                aria-label={`Delete ${nameOf(model)}`}
                onClick={reporting(() => remove(model))}
              >
                Delete
              </button>
            </li>
          ))}
        </ul>
      </div>
    </details>
  );
}

async function remove(model: KeptModel): Promise<void> {
  const question = {
    title: `Delete ${nameOf(model)}?`,
    text: `Its files (${sizeOf(model)}) are deleted from this browser, and loaded again when the model is opened next. Its saved states are kept.`,
    action: 'Delete',
  };
  if (!(await confirmed(question))) return;
  await (await library()).forgetModel(model);
  await list();
}

const sizeOf = ({ bytes, isWhole }: KeptModel): string =>
  isWhole ? formatBytes(bytes) : `${formatBytes(bytes)} so far`;

/** The name of a server's model, or the address of any other. */
function nameOf({ source }: KeptModel): string {
  const served = /\/studio\/api\/models\/([^/]+)\/[^/]+\/[^/]*$/.exec(source)?.[1];
  if (served !== undefined) return decodeURIComponent(served);
  const folder = new URL('.', document.baseURI).href;
  if (source.startsWith(folder)) return `${source.slice(folder.length)} of this page`;
  return source.replace(/^https:\/\/(huggingface\.co\/)?/, '');
}
