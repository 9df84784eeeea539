//! All that the hub draws at random: ids, and the seeds of its maps.

/// Where maps whose keys come from outside have their seeds from: random per map, against crafted collisions.
#[cfg(not(feature = "simulation"))]
pub type Seeds = foldhash::fast::RandomState;
/// Where maps whose keys come from outside have their seeds from: random per map, against crafted collisions; in a simulation from its
/// seed, since a map's order is the order in which people are told things.
#[cfg(feature = "simulation")]
pub type Seeds = crate::simulation::Seeds;

/// A name for a session that nobody can guess.
pub(crate) fn session_id() -> [u8; 18] {
    #[cfg(feature = "simulation")]
    if let Some(bytes) = crate::simulation::bytes() {
        return bytes;
    }
    rand::random()
}

/// An id of a message, or of a conversation without a name of its own: later ones are greater.
pub(crate) fn sortable_id() -> uuid::Uuid {
    #[cfg(feature = "simulation")]
    if let Some(bytes) = crate::simulation::bytes() {
        let now_ms = crate::clock::now_ms().cast_unsigned();
        return uuid::Builder::from_unix_timestamp_millis(now_ms, &bytes).into_uuid();
    }
    uuid::Uuid::now_v7()
}
