/**
 * One WebSocket connection. The current link carries commands and events. Next to it there is at most one that is being opened,
 * and some that are retiring: they have been replaced and only wait for replies to their commands.
 */
export class Link {
  socket = null;
  pending = new Map(); // id -> job
  ready = false; // the node has replied to `connect`
  opened = false; // the socket was open once
  muted = false; // its events are ignored, because another connection has asked for the session
  retiring = false;
  gone = false;
  handover = false; // opened while the current node drains
  trouble = ""; // the platform's error message when it could not connect
  timer = null;
  token = null;
  named = undefined; // the `resume` of its `connect`
  #heardAt = 0;
  #pingedAt = 0;
  #lastId = 0;

  constructor(url) {
    this.url = url;
  }

  /** Opens the socket. Throws the platform's error if it does not allow the address. */
  open(Socket, { opened, frame, closed }) {
    const socket = (this.socket = new Socket(this.url, "starling.v1.json"));
    socket.onopen = () => {
      this.opened = true;
      opened();
    };
    socket.onmessage = (event) => {
      this.#heardAt = performance.now();
      frame(event.data);
    };
    socket.onclose = (event) => closed(event.code, event.reason);
    // A close event follows. Browsers give no reason; other platforms do.
    socket.onerror = (event) => (this.trouble ||= event?.message ?? event?.error?.message ?? "");
  }

  /** Sends a job's command with a new id. */
  transmit(job) {
    const id = ++this.#lastId;
    this.pending.set(id, job);
    this.socket.send(`{"id":${id},${job.body.slice(1)}`);
  }

  /** Returns the job that a reply belongs to, and removes it from the pending ones. */
  answered(id) {
    const job = this.pending.get(id);
    this.pending.delete(id);
    return job;
  }

  /**
   * Watches for a dead connection. Browsers hide the node's pings, so after one heartbeat of silence the client sends a `ping`. After
   * another one without any sign of life the link is dead. The time counts from our own ping, so that a tab that was asleep is not misled.
   */
  watch(heartbeatMs, dead) {
    this.timer = setInterval(() => {
      const now = performance.now();
      if (this.#pingedAt > this.#heardAt) {
        if (now - this.#pingedAt >= heartbeatMs) dead();
      } else if (now - this.#heardAt >= heartbeatMs) {
        this.#pingedAt = now;
        this.transmit({ body: '{"op":"ping"}', settle() {} });
      }
    }, heartbeatMs / 2);
  }

  hangUp(code) {
    clearTimeout(this.timer); // also clears an interval, since they share their ids
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    // `ws` can terminate a socket, which suits a cut or dead one; browsers only have `close`.
    if (code === 1006 && this.socket.terminate) this.socket.terminate();
    else this.socket.close();
  }
}
