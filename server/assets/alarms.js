// Tells an open page of a new alarm. The page is not loaded anew by itself: somebody may be writing on it.
"use strict";
const news = document.getElementById("news");
const others = new BroadcastChannel("sallyport-alarms");
const tell = (number) => { if (number !== news.dataset.seen) news.hidden = false; };
others.addEventListener("message", (message) => { tell(message.data); });
// Of all pages of this browser one listens, because a browser opens few connections to a server at once.
navigator.locks.request("sallyport-alarms", () => new Promise((done) => {
  const source = new EventSource("/live/alarms");
  // The session has ended: a page that was signed in anew listens instead.
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) done(); });
  source.addEventListener("alarm", (event) => {
    tell(event.data);
    others.postMessage(event.data);
  });
}));
