//! Programs that are killed while they import and remove images, at whatever instant.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::testing::tar_of_images;

const DIR: &str = "MSB_TEST_IMAGES";
const ROLE: &str = "MSB_TEST_ROLE";
const ROUND: &str = "MSB_TEST_ROUND";

/// So many even where they take long.
const FEWEST: u64 = 4;
/// After that, no more are begun.
const ENOUGH: Duration = Duration::from_secs(40);
const ROUNDS: u64 = 50;
const IMAGES: u64 = 4;
/// The seed of all that is random here.
const SEED: u64 = 0x6d73_6221;

/// An image of a round: some of its layers are those of others.
fn picture(round: u64, number: u64) -> Image {
    let layer = |seed: u64, kib: usize| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; kib << 10];
        random.fill(&mut bytes);
        let name = format!("layer/{seed}");
        tar(&[(name.as_str(), bytes.as_slice()), ("same", b"in all")])
    };
    let own = 1000 * round + number;
    let tars = [
        layer(own % 3, 200),
        layer(1000 * round, 40),
        layer(7 + own, 60),
    ];
    image(&tars, &own.to_string())
}

fn name(who: &str, round: u64, number: u64) -> Reference {
    reference(&format!("{who}:{round}-{number}"))
}

/// Not a test of its own: the process that the other one kills.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = Store::open(dir.as_ref()).unwrap();
    println!("> begun");
    match std::env::var(ROLE).unwrap().as_str() {
        "keeper" => keep(&store, round),
        _ => churn(&store, round),
    }
}

/// Imports, and says what is there.
fn keep(store: &Store, round: u64) {
    for number in 0..IMAGES {
        let picture = picture(round, number);
        let name = name("kept", round, number);
        let claim = store.claim().unwrap();
        match number % 2 {
            0 => drop(picture.import(&claim, Some(&name)).unwrap()),
            _ => {
                let archive = tar_of_images(&[(&picture, &name)]);
                let options = crate::archive::LoadOptions::default();
                crate::archive::load_reader(&claim, archive.as_slice(), &options).unwrap();
            }
        }
        println!("> {number}");
    }
}

/// Imports the same under other names, and removes what it can.
fn churn(store: &Store, round: u64) {
    let mut random = fastrand::Rng::with_seed(SEED ^ round);
    loop {
        let number = random.u64(..IMAGES);
        let name = name("churned", round, number);
        let picture = picture(round, number);
        match random.u8(..4) {
            0 | 1 => drop(
                picture
                    .import(&store.claim().unwrap(), Some(&name))
                    .unwrap(),
            ),
            2 => match store.remove(&name, random.bool(), &nobody) {
                Ok(_) | Err(StoreError::ReferenceMissing(_) | StoreError::InUse(_)) => {}
                Err(error) => panic!("{error:?}"),
            },
            _ => drop(store.collect(&nobody).unwrap()),
        }
    }
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<u64>,
}

impl Running {
    fn start(role: &str, dir: &Path, round: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::killed::child", "--nocapture"])
            .env(DIR, dir)
            .env(ROLE, role)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun = lines.any(|line| line.unwrap().ends_with("> begun"));
        assert!(begun, "see above");
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits until it has said so much more, or is done.
    fn hear(&mut self, count: usize) {
        let numbers = self.lines.by_ref().map(|line| line.unwrap());
        let numbers = numbers.filter_map(|line| line.strip_prefix("> ")?.parse::<u64>().ok());
        self.said.extend(numbers.take(count));
    }

    /// Kills it. What it said until then.
    fn kill(mut self) -> Vec<u64> {
        let done = self.child.try_wait().unwrap();
        assert!(done.is_none_or(|status| status.success()), "see above");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.hear(usize::MAX);
        self.said
    }
}

/// Everything that has its own name is what it is called.
fn check(store: &Store) {
    for entry in fs::read_dir(store.layout.blobs()).unwrap() {
        let path = entry.unwrap().path();
        let digest = Digest::of(&fs::read(&path).unwrap());
        assert_eq!(
            path.file_name().unwrap().to_str(),
            Some(digest.hex().as_str())
        );
    }
    for entry in fs::read_dir(store.layout.layers()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let diff_id = format!("sha256:{name}").parse().unwrap();
        store.layer(&diff_id).unwrap().unwrap().verify().unwrap();
    }
    for entry in fs::read_dir(store.layout.meta()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(hex) = name.strip_suffix(".json") {
            let digest = format!("sha256:{hex}").parse().unwrap();
            store.verify(&digest).unwrap();
        }
    }
    for record in store.references().unwrap() {
        store.verify(&record.manifest_digest).unwrap();
    }
}

#[test]
fn whatever_instant_a_program_is_killed_at_nothing_is_there_by_halves() {
    let (_home, store) = store();
    let mut random = fastrand::Rng::with_seed(SEED);
    let began = Instant::now();
    for round in 0..ROUNDS {
        // A machine with much else to do has fewer.
        if round >= FEWEST && began.elapsed() > ENOUGH {
            break;
        }
        let mut keeper = Running::start("keeper", store.path(), round);
        let churner = Running::start("churner", store.path(), round);
        keeper.hear(random.usize(..3));
        // Busy, so that it may be any instant.
        let until = Instant::now() + Duration::from_micros(random.u64(..80_000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let said = match random.bool() {
            true => {
                churner.kill();
                keeper.kill()
            }
            false => {
                let said = keeper.kill();
                churner.kill();
                said
            }
        };
        check(&store);
        for number in said {
            let record = store.reference(&name("kept", round, number)).unwrap();
            let digest = picture(round, number).digest();
            assert_eq!(record.unwrap().manifest_digest, digest, "round {round}");
        }
        if random.u8(..4) != 0 {
            store.prune(&nobody).unwrap();
            assert_eq!(files(&store), BTreeSet::new(), "round {round}");
        }
    }
    // And all goes on as if nothing had been.
    keep(&store, ROUNDS);
    check(&store);
    store.prune(&nobody).unwrap();
    assert_eq!(files(&store), BTreeSet::new());
}
