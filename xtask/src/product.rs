//! The whole product as it stands in this checkout, built: guest, supervisor and VMM.

use anyhow::Result;

use crate::cargo::{self, Executable};
use crate::guest::Guest;
use crate::kvm::Call;

/// Everything that a program which uses the library has to find.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) guest: Guest,
    pub(crate) programs: Vec<Executable>,
}

impl Product {
    /// Builds what is not there or not fresh.
    pub(crate) fn build() -> Result<Self> {
        Ok(Self {
            guest: Guest::build()?,
            programs: cargo::host_programs()?,
        })
    }

    /// Makes a command find it, by the library's variables.
    pub(crate) fn show_to(&self, call: &mut Call) -> Result<()> {
        for (name, path) in self
            .guest
            .env()
            .into_iter()
            .chain(cargo::host_env(&self.programs)?)
        {
            call.set(name, path);
        }
        Ok(())
    }
}
