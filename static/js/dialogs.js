// Skip, flag and the cheat sheet: native dialogs, closed only once the server has taken what was said.

export class Dialogs {
  constructor(actions) {
    this.actions = actions;
    document.querySelectorAll("form[data-dialog]").forEach((form) => {
      form.addEventListener("submit", (event) => this.submit(event, form));
      form.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(form.querySelector("[value=go]"));
      });
    });
  }

  open(name) {
    const dialog = document.getElementById(`${name}-dialog`);
    dialog.querySelector("form[data-dialog]")?.reset();
    const error = dialog.querySelector(".error");
    if (error) error.textContent = "";
    dialog.showModal();
    dialog.querySelector("input, textarea")?.focus();
  }

  async submit(event, form) {
    if (event.submitter?.value === "cancel") return;
    event.preventDefault();
    const button = form.querySelector("[value=go]");
    button.disabled = true;
    const values = Object.fromEntries(new FormData(form));
    const { status, body } = await this.actions[form.dataset.dialog](values).catch(() => ({ status: 0 }));
    button.disabled = false;
    if (status >= 200 && status < 300) form.closest("dialog").close();
    else form.querySelector(".error").textContent = body?.detail || "The server cannot be reached; try again.";
  }
}
