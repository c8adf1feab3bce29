//! Landlock: every right that the kernel knows to withhold is withheld, and no rule gives one back.
//!
//! It is the one layer that needs neither a namespace nor a privilege. Descriptors that are open stay usable.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use msb_vmapi::Layer;

use super::report::Report;

/// The newest list of rights that this program knows. To withhold more than was tried can do no harm where
/// nothing is used.
const NEWEST: ABI = ABI::V10;

/// Withholds them from this thread and all that it will start.
pub(super) fn restrict(report: &mut Report) {
    let (status, abi) = match withhold() {
        Ok(done) => done,
        Err(error) => return report.missing(Layer::Landlock, crate::report::chain(&error)),
    };
    let partial = match (status, abi) {
        (RulesetStatus::NotEnforced, _) | (_, ABI::Unsupported) => {
            return report.missing(
                Layer::Landlock,
                "the kernel does not have it, or not enabled",
            );
        }
        (_, ABI::V1 | ABI::V2 | ABI::V3) => "paths only; TCP since Linux 6.7, signals since 6.12",
        (_, ABI::V4 | ABI::V5) => "paths and TCP; abstract sockets and signals since Linux 6.12",
        _ => return report.full(Layer::Landlock),
    };
    report.partial(Layer::Landlock, partial);
}

fn withhold() -> Result<(RulesetStatus, ABI), RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    Ok((status.ruleset, abi))
}
