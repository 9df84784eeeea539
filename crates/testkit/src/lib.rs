//! What tests of Starling stand on: real servers as child processes ([`redis`], [`postgres`], [`node`], [`balancer`]), faulty
//! links between them ([`proxy`]), clients that know the protocol and not the code ([`client`], [`http`], [`token`]), somebody whose
//! keys are trusted ([`issuer`]), sockets that race for one session ([`race`]), a place for traces to go ([`collector`]), and whatever has to be on the machine for that ([`install`]).
//!
//! Every server listens on a free port of the loopback, keeps its files in a temporary folder, and is ended by its own
//! process id when its value is dropped; when the test's process dies, the kernel ends the servers too.

pub mod balancer;
pub mod client;
pub mod collector;
mod folder;
pub mod http;
pub mod install;
pub mod issuer;
pub mod node;
mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod race;
pub mod redis;
pub mod resp;
pub mod token;
pub mod wait;

pub use folder::{Folder, remove_own, sweep_leftovers};
pub use port::{Port, free_port};
pub use process::{Launch, Process};
