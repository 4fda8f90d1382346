/** A button that copies a text. */
import { announce } from './announcement.js';
import { reporting } from './status.js';

/** `what` names the text for screen readers. Browsers have a clipboard for pages over HTTPS and of this machine only. */
export function Copy({ text, what }: { text: string; what: string }) {
  const { clipboard } = navigator as { clipboard?: Clipboard };
  if (!clipboard) return null;
  const copy = async (): Promise<void> => {
    await clipboard.writeText(text);
    announce(`Copied ${what}`);
  };
  return (
    <button type="button" class="plain" aria-label={`Copy ${what}`} onClick={reporting(copy)}>
      Copy
    </button>
  );
}
