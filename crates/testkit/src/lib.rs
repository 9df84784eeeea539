//! The foundation of Starling's tests: real servers as child processes ([`redis`], [`postgres`], [`rabbitmq`], [`node`], [`balancer`]), faulty
//! links between them ([`proxy`]), clients that know the protocol but not the code ([`client`], [`http`], [`token`]), an issuer of
//! trusted keys ([`issuer`]), certificates and a way through TLS ([`tls`]), connections that race for one session ([`race`]), a collector of traces
//! ([`collector`]), a backend that hooks and webhooks call ([`backend`]), and a service that takes reports of errors ([`error_service`]).
//!
//! Every server listens on a free port of the loopback, keeps its files in a temporary folder, and is ended by its own
//! process id when its value is dropped. When the test's process dies, the kernel ends the servers too.

pub mod backend;
pub mod balancer;
pub mod client;
pub mod collector;
pub mod error_service;
mod folder;
pub mod http;
pub mod issuer;
pub mod node;
mod port;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod rabbitmq;
pub mod race;
pub mod redis;
pub mod resp;
pub mod tls;
pub mod token;
mod user;
pub mod wait;

pub use folder::{Folder, remove_own, sweep_leftovers};
pub use port::{Port, free_port};
pub use process::{Launch, Process};
