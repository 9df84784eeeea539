//! The only source of chance of a node: ids, the seeds of maps, and what must not happen to all clients at once.

/// Seeds of maps whose keys come from outside: random for each map, against crafted collisions.
#[cfg(not(feature = "simulation"))]
pub type Seeds = foldhash::fast::RandomState;
/// Seeds of maps whose keys come from outside: random for each map, against crafted collisions. In a simulation they follow from its
/// seed, since a map's order is the order in which clients are told things.
#[cfg(feature = "simulation")]
pub type Seeds = crate::simulation::Seeds;

/// Random bytes; in a simulation, the next ones of its seed.
#[expect(clippy::disallowed_methods, reason = "this is the source that all others use")]
fn bytes<const COUNT: usize>() -> [u8; COUNT]
where
    rand::distr::StandardUniform: rand::distr::Distribution<[u8; COUNT]>,
{
    #[cfg(feature = "simulation")]
    if let Some(bytes) = crate::simulation::bytes() {
        return bytes;
    }
    rand::random()
}

/// A name for a session that nobody can guess.
pub(crate) fn session_id() -> [u8; 18] {
    bytes()
}

/// A random number, for example the seed of a generator.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A random number from 0 to 1, without 1.
pub fn fraction() -> f64 {
    // As many bits as an `f64` holds exactly.
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// An id of a message, or of a conversation without a name of its own: later ones are greater.
#[expect(clippy::disallowed_methods, reason = "this is the source that all others use")]
pub(crate) fn sortable_id() -> uuid::Uuid {
    #[cfg(feature = "simulation")]
    if let Some(bytes) = crate::simulation::bytes() {
        let now_ms = crate::clock::now_ms().cast_unsigned();
        return uuid::Builder::from_unix_timestamp_millis(now_ms, &bytes).into_uuid();
    }
    uuid::Uuid::now_v7()
}
