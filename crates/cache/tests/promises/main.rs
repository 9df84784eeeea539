//! What the cache promises, over real Redis servers. Each promise has a control: the same test with the mechanism switched off, in which the
//! promise has to be broken.

mod early;
mod fanout;
mod freshness;
mod gaps;
mod levels;
mod metrics;
mod outage;
mod stampede;
mod world;
mod writers;
