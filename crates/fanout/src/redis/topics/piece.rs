//! The pieces of a batch of publications, each of which is one command.

/// A publication in a batch.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub index: usize,
    pub partition: u16,
}

/// The publications for one group of partitions in one command.
pub(super) struct Piece {
    pub group: usize,
    pub places: Vec<Place>,
}
