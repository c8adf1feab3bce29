//! The jail: what a guest has that owns its VMM.

mod attacker;
mod life;
mod strace;
mod support;
