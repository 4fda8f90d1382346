/** The button that switches between light, dark and the system's theme. */
import { nextTheme, theme } from './theme.js';

const THEMES = { auto: 'as the system', light: 'light', dark: 'dark' } as const;

export function ThemeButton() {
  return (
    <button
      type="button"
      class="plain"
      onClick={nextTheme}
      aria-label={`Colours: ${THEMES[theme.value]}. Change`}
      title={`Colours: ${THEMES[theme.value]}`}
    >
      <ThemeIcon />
    </button>
  );
}

function ThemeIcon() {
  const shapes = {
    auto: <path d="M12 4a8 8 0 1 0 0 16z" fill="currentColor" />,
    light: <circle cx="12" cy="12" r="4" fill="currentColor" />,
    dark: <circle cx="12" cy="12" r="8" fill="currentColor" />,
  };
  return (
    <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
      <circle cx="12" cy="12" r="8" fill="none" stroke="currentColor" stroke-width="1.6" />
      {shapes[theme.value]}
    </svg>
  );
}
