// Shows how far the upload of a form is. The form is any <form data-upload> sent by htmx; without htmx it is posted plainly.

export function uploadState(loaded, total) {
  if (!total) return { share: null, text: `${megabytes(loaded)} sent` };
  if (loaded >= total) return { share: 1, text: "Sent. Checking the file…" };
  return { share: loaded / total, text: `${megabytes(loaded)} of ${megabytes(total)} sent` };
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function meterOf(event) {
  const form = event.target instanceof Element ? event.target.closest("form[data-upload]") : null;
  return form ? form.querySelector("[data-upload-meter]") : null;
}

function show(meter, state) {
  const bar = meter.querySelector("progress");
  meter.hidden = false;
  if (state.share === null) bar.removeAttribute("value");
  else bar.value = state.share;
  meter.querySelector("[data-upload-text]").value = state.text;
}

if (typeof document !== "undefined") {
  document.addEventListener("htmx:xhr:progress", (event) => {
    const meter = meterOf(event);
    // The answer's own progress comes as the same event, with the answer's few bytes.
    if (meter && event.detail.total > 4096) show(meter, uploadState(event.detail.loaded, event.detail.total));
  });
  for (const name of ["htmx:sendError", "htmx:responseError"]) {
    document.addEventListener(name, (event) => {
      const meter = meterOf(event);
      if (meter) meter.hidden = true;
    });
  }
}
