//! The list of layers as it grows.

use std::fmt::Display;

use msb_vmapi::{Isolation, Layer, LayerReport, Strength};

/// What was tried so far, and how far it came.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<LayerReport>);

impl Report {
    /// In force.
    pub(super) fn full(&mut self, layer: Layer) {
        self.add(layer, Strength::Full, None);
    }

    /// In force in part; what is missing.
    pub(super) fn partial(&mut self, layer: Layer, missing: impl Display) {
        self.add(layer, Strength::Partial, Some(missing.to_string()));
    }

    /// Not in force; why not.
    pub(super) fn missing(&mut self, layer: Layer, why: impl Display) {
        self.add(layer, Strength::Missing, Some(why.to_string()));
    }

    /// In force, or not in force for that reason. Says which.
    pub(super) fn tried(&mut self, layer: Layer, result: Result<(), impl Display>) -> bool {
        match result {
            Ok(()) => self.full(layer),
            Err(error) => {
                self.missing(layer, error);
                return false;
            }
        }
        true
    }

    /// Whether a layer is fully in force.
    pub(super) fn has(&self, layer: Layer) -> bool {
        let mut reports = self.0.iter();
        reports.any(|report| report.layer == layer && report.strength == Strength::Full)
    }

    fn add(&mut self, layer: Layer, strength: Strength, detail: Option<String>) {
        self.0.push(LayerReport {
            layer,
            strength,
            detail,
        });
    }

    pub(super) fn finish(self) -> Isolation {
        Isolation { layers: self.0 }
    }
}
