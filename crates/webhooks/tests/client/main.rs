//! The client against real servers on the loopback, most of which behave badly.

mod addresses;
mod answers;
mod asking;
mod backend;
mod hostile;
mod tls;
