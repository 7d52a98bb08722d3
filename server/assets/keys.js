// Security keys (WebAuthn): asks the server for a question, the key for its answer, and sends that back.
"use strict";

const bytes = (text) => {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (character) => character.charCodeAt(0));
};
const text = (buffer) => {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
};

async function post(path, message) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(message),
  });
  let said = {};
  try { said = await answer.json(); } catch { /* no JSON: the general sentence below */ }
  if (!answer.ok) throw new Error(said.problem || "The server did not accept this. Reload the page and try again.");
  return said;
}

async function make(question) {
  const options = question.publicKey;
  options.challenge = bytes(options.challenge);
  options.user.id = bytes(options.user.id);
  for (const known of options.excludeCredentials || []) known.id = bytes(known.id);
  const made = await navigator.credentials.create({ publicKey: options });
  return {
    id: made.id, rawId: text(made.rawId), type: made.type, extensions: {},
    response: {
      clientDataJSON: text(made.response.clientDataJSON),
      attestationObject: text(made.response.attestationObject),
    },
  };
}

async function show(question) {
  const options = question.publicKey;
  options.challenge = bytes(options.challenge);
  for (const known of options.allowCredentials || []) known.id = bytes(known.id);
  const shown = await navigator.credentials.get({ publicKey: options });
  const response = shown.response;
  return {
    id: shown.id, rawId: text(shown.rawId), type: shown.type, extensions: {},
    response: {
      clientDataJSON: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: response.userHandle ? text(response.userHandle) : null,
    },
  };
}

const button = document.getElementById("key");
const say = document.getElementById("key-say");
button?.addEventListener("click", async () => {
  const field = (id) => document.getElementById(id)?.value || "";
  const message = { csrf: button.dataset.csrf || "", name: field("name"), label: field("label") };
  button.disabled = true;
  say.textContent = "Touch your security key …";
  try {
    const question = await post(button.dataset.ask, message);
    const answer = button.dataset.act === "make" ? await make(question) : await show(question);
    const said = await post(button.dataset.answer, { ...message, answer });
    if (said.next) location.assign(said.next);
    say.textContent = said.say || "Done.";
  } catch (error) {
    // The browser's own errors have a name; its words differ between browsers.
    say.textContent = error instanceof DOMException
      ? "The key did not answer, or it was cancelled. Try again."
      : error.message;
  }
  button.disabled = false;
});
