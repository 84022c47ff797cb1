/** Light, dark, or what the system says. The first paint is set by `public/theme.js`. */
export type Theme = 'system' | 'light' | 'dark';
const KEY = 'herald.live.theme';
const listeners = new Set<() => void>();
const dark = window.matchMedia('(prefers-color-scheme: dark)');

export function chosen(): Theme {
  const stored = localStorage.getItem(KEY);
  return stored === 'light' || stored === 'dark' ? stored : 'system';
}

export function isDark(): boolean {
  const theme = chosen();
  return theme === 'dark' || (theme === 'system' && dark.matches);
}

export function choose(theme: Theme): void {
  if (theme === 'system') localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme);
  apply();
}

/** Called at the change of the theme, after the colours have changed. */
export function onThemeChange(listener: () => void): void {
  listeners.add(listener);
}

function apply(): void {
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
  for (const listener of listeners) listener();
}

dark.addEventListener('change', apply);
