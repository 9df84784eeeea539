//! The only source of randomness of a node, for ids, the seeds of maps, and delays that spread clients.

/// The seeds of maps with untrusted keys. They are random for each map, against crafted collisions.
#[cfg(not(feature = "simulation"))]
pub type Seeds = foldhash::fast::RandomState;
/// The seeds of maps with untrusted keys. They are random for each map, against crafted collisions. In a simulation they follow from its
/// seed, since the order of a map decides in which order clients get events.
#[cfg(feature = "simulation")]
pub type Seeds = crate::simulation::Seeds;

/// Fills an array with random bytes. In a simulation they follow from its seed.
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

/// Makes a session id that nobody can guess.
pub(crate) fn session_id() -> [u8; 18] {
    bytes()
}

/// Returns a random number, for example the seed of a generator.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// Returns a random number from 0 up to, but not including, 1.
pub fn fraction() -> f64 {
    // Use as many bits as an `f64` has exactly.
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Makes an id of a message or of a conversation without a given name. Later ids are greater.
#[expect(clippy::disallowed_methods, reason = "this is the source that all others use")]
pub(crate) fn sortable_id() -> uuid::Uuid {
    #[cfg(feature = "simulation")]
    if let Some(bytes) = crate::simulation::bytes() {
        let now_ms = crate::clock::now_ms().cast_unsigned();
        return uuid::Builder::from_unix_timestamp_millis(now_ms, &bytes).into_uuid();
    }
    uuid::Uuid::now_v7()
}
