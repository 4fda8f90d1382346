/** A confirmation dialog for irreversible actions. */
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

interface Question {
  readonly title: string;
  /** What is lost, and what is not. */
  readonly text: string;
  /** The label of the confirming button. */
  readonly action: string;
}

const asked = signal<(Question & { readonly answer: (yes: boolean) => void }) | undefined>(undefined);

/** Asks the user; resolves to true if confirmed. */
export function confirmed(question: Question): Promise<boolean> {
  asked.value?.answer(false);
  return new Promise((resolve) => {
    const answer = (yes: boolean): void => {
      asked.value = undefined;
      resolve(yes);
    };
    asked.value = { ...question, answer };
  });
}

/** The dialog. */
export function Confirmation() {
  const dialog = useRef<HTMLDialogElement>(null);
  const question = asked.value;
  useEffect(() => {
    if (question && !dialog.current!.open) dialog.current!.showModal();
  }, [question]);
  if (!question) return null;
  const { title, text, action, answer } = question;
  return (
    <dialog
      ref={dialog}
      class="confirmation"
      aria-labelledby="confirmation-title"
      aria-describedby="confirmation-text"
      onClose={() => answer(false)}
    >
      <h2 id="confirmation-title">{title}</h2>
      <p id="confirmation-text">{text}</p>
      <div class="choices">
        <button type="button" onClick={() => answer(false)}>
          Cancel
        </button>
        <button type="button" class="main" onClick={() => answer(true)}>
          {action}
        </button>
      </div>
    </dialog>
  );
}
