// Adds events to the page as they come. Without it the page shows them when it
// is loaded.
const list = document.getElementById("events");
if (list) {
  const state = document.getElementById("state");
  const source = new EventSource("/api/live/events?topic=" + encodeURIComponent(list.dataset.topic));
  source.onopen = () => { state.textContent = "Listening."; };
  source.onerror = () => { state.textContent = "Not connected."; };
  source.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    const time = document.createElement("span");
    time.className = "soft";
    time.textContent = event.at.slice(11, 19);
    const data = document.createElement("code");
    data.textContent = JSON.stringify(event.data);
    const item = document.createElement("li");
    item.append(time, " ", data);
    list.append(item);
    while (list.children.length > 200) list.firstElementChild.remove();
  });
}
