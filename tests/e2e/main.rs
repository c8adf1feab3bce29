//! End-to-end tests: each boots real guests through the public API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod agent;
mod archives;
mod boot;
mod boot_duties;
mod debian;
mod ending;
mod endurance;
mod exec;
mod exec_options;
mod fidelity;
mod fs;
mod homes;
mod images;
mod jail;
mod kill;
mod life;
mod life_kill;
mod life_many;
mod life_pid;
mod ordinary_user;
mod pulls;
mod refused;
mod root;
mod sessions;
mod snapshots;
mod standalone;
mod streams;
mod terminals;
