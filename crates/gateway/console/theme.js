// Runs before the first paint, so that the page does not flash. Without a choice the system's theme is used.
try {
  const chosen = localStorage.getItem("starling.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's theme is used.
}
