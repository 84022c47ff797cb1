// Before the first paint, so that a dark page does not flash white. Not inline: the policy of the
// page allows no inline script.
(() => {
  const stored = localStorage.getItem('herald.live.theme');
  const dark =
    stored === 'dark' || (stored !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
