// One question, answered in several modes at the same time, each in a column of its own.

import { showAnswer } from "./answer.js";
import { setupComposer } from "./composer.js";

export function setupCompare(view, site) {
  const results = view.querySelector("[data-results]");
  const columns = view.querySelector("[data-columns]");
  const empty = view.querySelector("[data-empty]");

  async function ask(question, modes, signal) {
    if (empty) empty.hidden = true;
    results.hidden = false;
    results.querySelector("[data-asked]").textContent = question;
    columns.replaceChildren();
    const messages = [{ role: "user", content: question }];
    const answers = await Promise.all(modes.map((mode) => showAnswer(columns, site, { mode, messages, signal })));
    return answers.some((answer) => answer.state !== "failed");
  }

  return setupComposer(view, ask);
}
