//! A node's connection to the broker.

use parking_lot::Mutex;

/// A node's connection to the broker.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    /// Whether nothing passes.
    cut: bool,
    /// Whether it stays cut until it is restored from outside.
    held: bool,
    /// Whether nothing arrives at the node, although the link looks well.
    deaf: bool,
    /// Whether the node knows that the link is cut.
    known: bool,
    /// The number of the connection. Publications of an earlier connection are lost.
    life: u64,
}

impl Link {
    /// Returns the number of the present connection.
    pub fn life(&self) -> u64 {
        self.state.lock().life
    }

    /// Whether something arrives at the node that was sent on the connection with this number.
    pub fn carries(&self, life: u64) -> bool {
        let state = self.state.lock();
        !state.cut && !state.deaf && state.life == life
    }

    /// Whether nothing passes.
    pub fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    /// Whether the node knows that the link is cut.
    pub fn is_known_to_be_cut(&self) -> bool {
        self.state.lock().known
    }

    /// Cuts the link until [`Link::release`]. The node does not know it yet.
    pub fn cut(&self) {
        let mut state = self.state.lock();
        (state.cut, state.held) = (true, true);
        state.life += 1;
    }

    /// Cuts the link, as its node wants.
    pub fn drop_by_node(&self) {
        let mut state = self.state.lock();
        (state.cut, state.known) = (true, true);
        state.life += 1;
    }

    /// Makes the link one that was never there, until [`Link::release`].
    pub fn begin_cut(&self) {
        let mut state = self.state.lock();
        (state.cut, state.held, state.known) = (true, true, true);
    }

    /// Tells the node that the link is cut, if it still is.
    pub fn notice(&self) -> bool {
        let mut state = self.state.lock();
        state.known |= state.cut;
        state.cut
    }

    /// Lets the link be connected again.
    pub fn release(&self) {
        self.state.lock().held = false;
    }

    /// Lets nothing arrive at the node until the link is connected again.
    pub fn deafen(&self) {
        self.state.lock().deaf = true;
    }

    /// Connects the link again. `false`: it stays cut from outside.
    pub fn connect(&self) -> bool {
        let mut state = self.state.lock();
        if state.held {
            return false;
        }
        (state.cut, state.deaf, state.known) = (false, false, false);
        state.life += 1;
        true
    }
}
