/**
 * One WebSocket. The current link carries commands and events; beside it there is at most one that is being dialled
 * and some that are retiring: replaced, and only waited for by what was asked on them.
 */
export class Link {
  socket = null;
  pending = new Map(); // id -> job
  ready = false; // the node answered `connect`
  opened = false; // the socket was open once
  muted = false; // its events are ignored: another socket asked for the session
  retiring = false;
  gone = false;
  handover = false; // dialled beside a link that drains
  trouble = ""; // what the platform said when it could not connect
  timer = null;
  token = null;
  named = undefined; // what its `connect` asked to resume
  #heardAt = 0;
  #pingedAt = 0;
  #lastId = 0;

  constructor(url) {
    this.url = url;
  }

  /** Opens the socket. Throws what the platform throws for an address that it does not take. */
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
    // A close follows. Browsers say nothing more; other platforms give a reason.
    socket.onerror = (event) => (this.trouble ||= event?.message ?? event?.error?.message ?? "");
  }

  /** Sends a job's command under an id of its own. */
  transmit(job) {
    const id = ++this.#lastId;
    this.pending.set(id, job);
    this.socket.send(`{"id":${id},${job.body.slice(1)}`);
  }

  /** The job that a reply belongs to; it is answered by that. */
  answered(id) {
    const job = this.pending.get(id);
    this.pending.delete(id);
    return job;
  }

  /**
   * Browsers hide the node's pings, so a quiet link is asked: after one heartbeat of silence by a `ping`, and after
   * one more without any sign of life it is dead. Counted from our own ping, so that a sleeping tab is not fooled.
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
    clearTimeout(this.timer); // an interval too: they share their ids
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    // `ws` can drop a socket hard, which a cut or dead one asks for; browsers only know `close`.
    if (code === 1006 && this.socket.terminate) this.socket.terminate();
    else this.socket.close();
  }
}
