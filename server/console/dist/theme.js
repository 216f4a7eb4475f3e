// Runs before the first paint: no flash of the other theme. It is a file since the policy allows nothing inline.
try {
  var theme = localStorage.getItem('k2.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch (_) {
  // Storage is off: the system's theme.
}
