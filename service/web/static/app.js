// Entry: shows the view that the address names, and enables a mode as soon as the service can answer in it.

import { setupChat } from "./chat.js";
import { setupCompare } from "./compare.js";

const POLL_MS = 5000;
const app = document.getElementById("app");
const site = { domain: app.dataset.domain, documents: app.dataset.documents };
const views = { chat: document.getElementById("view-chat"), compare: document.getElementById("view-compare") };
const composers = [setupChat(views.chat, site), setupCompare(views.compare, site)];

function showView() {
  const name = location.hash.slice(1) in views ? location.hash.slice(1) : "chat";
  for (const [each, view] of Object.entries(views)) view.hidden = each !== name;
  for (const link of document.querySelectorAll("[data-view-link]")) {
    if (link.dataset.viewLink === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (matchMedia("(hover: hover)").matches) views[name].querySelector("textarea").focus({ preventScroll: true });
}

/** An adapter can finish training while the page is open. */
async function enableReadyModes() {
  const waiting = [...document.querySelectorAll(".segment input:disabled")];
  if (!waiting.length) return;
  try {
    if (document.visibilityState === "visible") {
      const { data } = await (await fetch("/v1/models")).json();
      const ready = new Set(data.filter((model) => model.bakeoff?.ready).map((model) => model.id));
      for (const input of waiting) input.disabled = !ready.has(`${site.domain}/${input.value}`);
      for (const note of document.querySelectorAll("[data-waiting]")) {
        note.hidden = note.dataset.waiting.split(" ").every((mode) => ready.has(`${site.domain}/${mode}`));
      }
      for (const composer of composers) composer.explain();
    }
  } catch {
    // The service is away for a moment: a question asked now says so.
  }
  setTimeout(enableReadyModes, POLL_MS);
}

document.getElementById("domain-select")?.addEventListener("change", (event) => {
  location.href = `/?domain=${encodeURIComponent(event.target.value)}${location.hash}`;
});
addEventListener("hashchange", showView);
document.querySelector("[data-needs-script]").remove();
showView();
enableReadyModes();
