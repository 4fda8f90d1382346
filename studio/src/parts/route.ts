/** The current page, which is in the address after `#/`. */
import { signal } from '@preact/signals';

const PAGES = ['chat', 'library', 'runs', 'inside'] as const;
export type PageName = (typeof PAGES)[number];

const named = (): PageName => PAGES.find((name) => location.hash === `#/${name}`) ?? 'chat';

export const page = signal<PageName>(named());

addEventListener('hashchange', () => {
  page.value = named();
});

export function go(to: PageName): void {
  location.hash = `#/${to}`;
}
