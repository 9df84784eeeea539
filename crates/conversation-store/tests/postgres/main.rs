//! What only PostgreSQL can show.

mod connecting;
mod faults;
mod options;
mod previous_release;
mod store;
mod upgrade;
mod waiting;
