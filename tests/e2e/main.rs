//! End-to-end tests: each boots real guests through the public API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod agent;
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
mod jail;
mod kill;
mod life;
mod life_kill;
mod life_many;
mod life_pid;
mod ordinary_user;
mod refused;
mod sessions;
mod standalone;
mod streams;
mod terminals;
