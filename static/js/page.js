// Small manners every page has: confirm before a dangerous form, copy buttons, and no double submit.

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) {
    event.preventDefault();
    return;
  }
  if (form.method === "post" && !form.hasAttribute("data-resubmit")) {
    window.setTimeout(() => form.querySelectorAll("button").forEach((button) => { button.disabled = true; }), 0);
    window.setTimeout(() => form.querySelectorAll("button").forEach((button) => { button.disabled = false; }), 4000);
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  const label = button.textContent;
  button.textContent = await copy(source) ? button.dataset.copied || "Copied" : "Selected: press Ctrl+C";
  window.setTimeout(() => { button.textContent = label; }, 1500);
});

// Browsers offer the clipboard to secure pages alone; a site on plain HTTP selects the text and asks the old way.
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    return true;
  } catch {
    if (source.select) source.select();
    else window.getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
});

// A failed request says so instead of doing nothing.
document.addEventListener("htmx:sendError", () => {
  const messages = document.getElementById("messages");
  if (messages) messages.textContent = "The server cannot be reached. Nothing was changed; try again in a moment.";
});

// On a narrow screen a row of tabs scrolls sideways: the tab one is at comes into sight.
document.querySelectorAll(".tabs [aria-current], .project-tabs [aria-current]").forEach((tab) => {
  const row = tab.closest(".tabs, .project-tabs");
  row.scrollLeft += tab.getBoundingClientRect().left - row.getBoundingClientRect().left - (row.clientWidth - tab.offsetWidth) / 2;
});

window.addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("button:disabled").forEach((button) => { button.disabled = false; });
});
