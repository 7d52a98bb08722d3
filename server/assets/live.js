// The live list: rows are made by the server; this only puts them in place and moves between them by keyboard.
"use strict";
const list = document.getElementById("passages");
const state = document.getElementById("state");
const say = document.getElementById("say");
const LIMIT = 60;

const source = new EventSource(list.dataset.events);
source.addEventListener("open", () => { state.textContent = "live"; });
source.addEventListener("error", () => { state.textContent = "connection lost, trying again …"; });
source.addEventListener("reload", () => { location.reload(); });
source.addEventListener("passage", (event) => {
  const holder = document.createElement("template");
  holder.innerHTML = event.data;
  const row = holder.content.firstElementChild;
  const known = document.getElementById(row.id);
  if (known) {
    const focused = known.contains(document.activeElement);
    known.replaceWith(row);
    if (focused) row.querySelector("a").focus();
  } else {
    row.classList.add("new");
    list.prepend(row);
  }
  while (list.children.length > LIMIT) list.lastElementChild.remove();
  document.getElementById("empty")?.remove();
  say.textContent = row.dataset.say;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const links = [...list.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  const go = (link) => { if (link) { link.focus(); event.preventDefault(); } };
  if (event.key === "j" || event.key === "ArrowDown") go(links[at + 1]);
  if (event.key === "k" || event.key === "ArrowUp") go(links[Math.max(at - 1, 0)]);
  if (event.key === "r") go(list.querySelector(".open a"));
});
