//! `cargo xtask soak NAME`: long runs that look for what builds up: leaks, leftovers, rare races.
//!
//! A soak is one of the end-to-end tests that is marked `#[ignore]`, because it takes as long as it
//! is given: it reads how long from `MSB_SOAK_ROUNDS` or `MSB_SOAK_SECONDS`. One that has an end of
//! its own heeds neither, and the time is what it may take.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::kvm::{self, Call};
use crate::product::Product;
use crate::test::files::TestFiles;
use crate::{cargo, proc, setup};

/// How much longer than the soak itself the machine may live.
const MARGIN: Duration = Duration::from_secs(300);

/// How long it runs when nobody says.
const SECONDS: u64 = 600;

/// How long one round may take, on average.
const ROUND: Duration = Duration::from_secs(60);

/// Options of `soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which soak; without it, those that there are
    name: Option<String>,
    /// How long to run [default: 600, or as long as the rounds may take]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=86_400 * 7))]
    seconds: Option<u64>,
    /// How many rounds to run, instead of a time
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
}

impl Options {
    /// How long it may run, without the margin.
    fn time(&self) -> Duration {
        match (self.seconds, self.rounds) {
            (Some(seconds), _) => Duration::from_secs(seconds),
            (None, Some(rounds)) => ROUND * rounds,
            (None, None) => Duration::from_secs(SECONDS),
        }
    }
}

/// Runs one soak where KVM is real.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    let tests = cargo::end_to_end_tests()?;
    let mut soaks = Vec::new();
    for test in tests {
        let list = proc::text(Command::new(&test.path).args(["--list", "--ignored"]))?;
        soaks.extend(names(&list).map(|name| (name, test.path.clone())));
    }
    let known: Vec<&str> = soaks.iter().map(|(name, _)| name.as_str()).collect();
    let Some(wanted) = &options.name else {
        if known.is_empty() {
            eprintln!("there is no soak yet: no end-to-end test is marked #[ignore]");
        }
        known.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    };
    let Some((name, program)) = soaks.iter().find(|(name, _)| name == wanted) else {
        bail!("no soak {wanted:?}; there are: {}", known.join(", "));
    };

    let product = Product::build()?;
    let argv = [
        program.as_os_str(),
        name.as_ref(),
        "--exact".as_ref(),
        "--ignored".as_ref(),
    ];
    let mut call = Call::here(argv.iter().map(Into::into).collect())?;
    call.argv.push("--nocapture".into());
    call.set("MSB_SOAK_SECONDS", options.time().as_secs().to_string());
    if let Some(rounds) = options.rounds {
        call.set("MSB_SOAK_ROUNDS", rounds.to_string());
    }
    product.show_to(&mut call)?;
    TestFiles::build()?.show_to(&mut call);
    let limit = options.time() + MARGIN;
    let outcome = kvm::run(&kvm::Options::with_timeout(limit), call);
    Ok(outcome.context("the soak could not run")?.into_exit_code())
}

/// The test names in a harness's `--list`.
fn names(list: &str) -> impl Iterator<Item = String> {
    list.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MARGIN, Options};

    #[test]
    fn rounds_and_seconds_say_how_long() {
        let time = |seconds, rounds| {
            let name = None;
            let options = Options {
                name,
                seconds,
                rounds,
            };
            options.time()
        };
        assert_eq!(time(None, None), Duration::from_secs(600));
        assert_eq!(time(Some(5), Some(200)), Duration::from_secs(5));
        assert!(time(None, Some(200)) > MARGIN);
    }

    #[test]
    fn names_are_read_from_a_list() {
        let list = "a::b: test\nc: benchmark\nd: test\n\n2 tests, 1 benchmark\n";
        assert_eq!(super::names(list).collect::<Vec<_>>(), ["a::b", "d"]);
    }
}
