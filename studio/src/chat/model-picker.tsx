/** Selection of models, and of where each of them runs. */
import { formatBytes } from '../../../src/cli/format.js';
import { keptKey, modelFiles } from '../api.js';
import { isServed } from '../hosts/hosts.js';
import { KeptModels } from '../hosts/kept-models.js';
import { forgetOtherVersions, load, loading } from '../hosts/tab.js';
import { connected } from '../parts/connection.js';
import { reporting } from '../parts/status.js';
import { open } from './chat.js';
import { addLane, lanes, models } from './lanes.js';

const IN_TAB = ' (this tab)';

interface PickerProps {
  /** Closes the lanes of a model, after a confirmation. */
  readonly onClose: (model: string) => void;
}

export function ModelPicker({ onClose }: PickerProps) {
  const found = models.value?.filter(({ id }) => !id.endsWith(IN_TAB));
  if (!found) return <p class="faint">{connected.value ? 'Looking for models…' : ''}</p>;
  // The demo has its own selection of a model.
  if (!isServed()) return null;
  if (found.length === 0) return <p>This server has no models.</p>;
  return (
    <>
      <Chips
        legend="On the server"
        names={found.map(({ id }) => id)}
        suffix=""
        onOpen={async (id) => void addLane(id)}
        onClose={onClose}
      />
      <Chips
        legend="In this tab"
        names={found.map(({ id }) => id)}
        suffix={IN_TAB}
        onOpen={openHere}
        onClose={onClose}
      />
      <KeptModels />
    </>
  );
}

/** Runs a model of the server in the browser, which downloads and stores its files. */
async function openHere(model: string): Promise<void> {
  const name = `${model}${IN_TAB}`;
  if (!models.value?.some(({ id }) => id === name)) {
    const { folder, files } = await modelFiles(model);
    const names = Object.keys(files);
    const [file] = names;
    const gguf = names.length === 1 && file!.endsWith('.gguf') ? encodeURIComponent(file!) : '';
    const token = keptKey();
    await load(name, { url: `${folder}${gguf}`, files: gguf ? [] : names, ...(token && { token }) });
    await forgetOtherVersions(folder);
    await open();
  }
  addLane(name);
}

interface ChipsProps extends PickerProps {
  readonly legend: string;
  readonly names: readonly string[];
  /** The suffix of these names in the lanes' models. */
  readonly suffix: string;
  readonly onOpen: (name: string) => Promise<void>;
}

function Chips({ legend, names, suffix, onOpen, onClose }: ChipsProps) {
  return (
    <fieldset class="chips">
      <legend>{legend}</legend>
      {names.map((name) => {
        const id = `${name}${suffix}`;
        const open = lanes.value.filter(({ model }) => model === id);
        const coming = loading.value.has(id);
        return (
          <label key={name} class="chip">
            <input
              type="checkbox"
              aria-label={id}
              checked={open.length > 0}
              // At least one model must stay selected.
              disabled={coming || (open.length > 0 && open.length === lanes.value.length)}
              onChange={(event) => {
                const { checked } = event.currentTarget;
                // The box changes with the lanes: after the model is loaded, or after the confirmation.
                event.currentTarget.checked = !checked;
                if (checked) reporting(() => onOpen(name))();
                else onClose(id);
              }}
            />
            {name}
            {coming && <Coming id={id} />}
          </label>
        );
      })}
    </fieldset>
  );
}

function Coming({ id }: { id: string }) {
  const { loaded = 0, total } = loading.value.get(id) ?? {};
  return (
    <span class="faint" role="status">
      {total ? `${formatBytes(loaded)} of ${formatBytes(total)}` : 'opening'}
    </span>
  );
}
