//! What only PostgreSQL can show.

mod connecting;
mod faults;
mod options;
mod store;
mod waiting;
