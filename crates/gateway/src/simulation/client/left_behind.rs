//! A connection that a client has left open when it opened a later one for the same session.

use std::rc::Rc;

use super::super::world::World;

/// A connection that was left open. It is counted until a node closes it.
pub struct LeftBehind {
    world: Rc<World>,
    client: usize,
}

impl LeftBehind {
    /// Counts a connection of a client.
    pub fn new(world: Rc<World>, client: usize) -> LeftBehind {
        world.clients.borrow_mut()[client].left_behind += 1;
        LeftBehind { world, client }
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        // At the end of a run everything is dropped, in any order.
        if let Ok(mut clients) = self.world.clients.try_borrow_mut()
            && let Some(client) = clients.get_mut(self.client)
        {
            client.left_behind -= 1;
        }
    }
}
