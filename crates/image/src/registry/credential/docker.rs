//! Docker's configuration, `~/.docker/config.json`: what `docker login` wrote down.
//!
//! It has credentials itself (`auths`), or names programs that keep them (`credHelpers` for some registries,
//! `credsStore` for the rest). The crate for it waits for such a program without a deadline and has what it prints
//! in its errors, so what it takes is here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use msb_types::RegistryAuth;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{Credential, CredentialSource};

/// The longest configuration, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// The longest answer of a program, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// How long a program may take. It may ask a person.
const HELPER: Duration = Duration::from_secs(60);

/// The names that Docker's own registry goes by.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// How Docker's own registry is called where its credentials are kept.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// What programs call a user who is a token.
const TOKEN_USER: &str = "<token>";

/// Docker's configuration.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    helper: Duration,
}

/// Docker's configuration, or a program that it names, was of no help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not as Docker writes it.
    #[error("{} is no configuration of Docker", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A program failed.
    #[error("{program} {what}; try `echo {server} | {program} get`")]
    Helper {
        /// The program.
        program: String,
        /// What it did.
        what: &'static str,
        /// What it was asked about.
        server: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Option<Auth>>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl DockerConfig {
    /// This user's, in `DOCKER_CONFIG` or `~/.docker`.
    pub fn of_user() -> Option<Self> {
        let dir = match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => std::env::home_dir()?.join(".docker"),
        };
        Some(Self::in_dir(&dir))
    }

    /// The one in this directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("config.json"),
            helper: HELPER,
        }
    }

    /// What it knows of a registry.
    ///
    /// # Errors
    ///
    /// [`DockerError`]: a file that cannot be read, a program that fails. No file is no error.
    pub async fn credential(&self, registry: &str) -> Result<Option<Credential>, DockerError> {
        let Some(file) = self.read().await? else {
            return Ok(None);
        };
        let named = |key: &str| is_of(key, registry);
        let helper = file.cred_helpers.iter().find(|(key, _)| named(key));
        let kept = match (helper, &file.creds_store) {
            (Some((server, program)), _) => self.ask(program, server).await?,
            (None, Some(program)) => {
                // By the name it was stored under, which is in `auths` without anything else.
                let known = file.auths.keys().find(|key| named(key));
                let hub = HUB.contains(&registry).then_some(HUB_SERVER);
                let server = known.map(String::as_str).or(hub).unwrap_or(registry);
                self.ask(program, server).await?
            }
            (None, None) => None,
        };
        if kept.is_some() {
            return Ok(kept);
        }
        let auths = file.auths.into_iter().filter(|(key, _)| named(key));
        for auth in auths.filter_map(|(_, auth)| auth) {
            if let Some(credential) = auth.credential(&self.path)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    async fn read(&self) -> Result<Option<File>, DockerError> {
        let (path, failed) = (self.path.clone(), self.path.clone());
        let read =
            tokio::task::spawn_blocking(move || -> io::Result<Option<Zeroizing<Vec<u8>>>> {
                let file = match std::fs::File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened?,
                };
                let mut bytes = Zeroizing::new(Vec::new());
                io::Read::read_to_end(&mut io::Read::take(file, MAX_CONFIG), &mut bytes)?;
                Ok(Some(bytes))
            });
        let bytes = read.await.map_err(io::Error::other).flatten();
        let bytes = bytes.map_err(|source| DockerError::Read {
            path: failed,
            source,
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        // The error of the parser could show a part of the file.
        let file = serde_json::from_slice(&bytes).map_err(|_| self.malformed())?;
        Ok(Some(file))
    }

    fn malformed(&self) -> DockerError {
        DockerError::Malformed {
            path: self.path.clone(),
        }
    }

    /// Asks a program that keeps credentials.
    async fn ask(&self, name: &str, server: &str) -> Result<Option<Credential>, DockerError> {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || !name.chars().all(letter) {
            return Err(self.malformed());
        }
        let program = format!("docker-credential-{name}");
        let failed = |what| DockerError::Helper {
            program: program.clone(),
            what,
            server: server.to_owned(),
        };
        let answer = tokio::time::timeout(self.helper, run(&program, server)).await;
        let (good, answer) = match answer {
            Err(_) => return Err(failed("did not answer in time")),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(failed("is not installed"));
            }
            Ok(Err(_)) => return Err(failed("could not be run")),
            Ok(Ok(answer)) => answer,
        };
        if !good {
            let said = String::from_utf8_lossy(&answer);
            return match said.contains("credentials not found") {
                true => Ok(None),
                false => Err(failed("failed")),
            };
        }
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| failed("gave an answer that is none"))?;
        let source = CredentialSource::Docker;
        Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
            (_, true) => None,
            (TOKEN_USER, false) => Some(Credential::identity(source, answer.secret)),
            _ => Some(Credential::new(
                source,
                RegistryAuth::Basic {
                    username: answer.username,
                    password: answer.secret,
                },
            )),
        })
    }
}

/// Runs a program to its end: whether that was a good one, and what it printed. It is killed when nobody waits.
async fn run(program: &str, server: &str) -> io::Result<(bool, Zeroizing<Vec<u8>>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // One that does not listen may still answer.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
    };
    let hear = async {
        let mut answer = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            stdout.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        }
        io::Result::Ok(answer)
    };
    let ((), answer) = futures::join!(tell, hear);
    let answer = answer?;
    Ok((child.wait().await?.success(), answer))
}

impl Auth {
    fn credential(self, path: &Path) -> Result<Option<Credential>, DockerError> {
        let malformed = || DockerError::Malformed {
            path: path.to_path_buf(),
        };
        let source = CredentialSource::Docker;
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::identity(source, token)));
        }
        let (username, password) = match self.auth.filter(|auth| !auth.is_empty()) {
            Some(auth) => {
                let padding = DecodePaddingMode::Indifferent;
                let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
                let decoded = GeneralPurpose::new(&STANDARD, config).decode(auth.as_bytes());
                let decoded = Zeroizing::new(decoded.map_err(|_| malformed())?);
                let text = std::str::from_utf8(&decoded).map_err(|_| malformed())?;
                let (username, password) = text.split_once(':').ok_or_else(malformed)?;
                // Some versions end it with a zero byte.
                (
                    username.to_owned(),
                    password.trim_end_matches('\0').to_owned(),
                )
            }
            None => match (self.username, self.password) {
                (Some(username), Some(password)) => (username, password.to_string()),
                _ => return Ok(None),
            },
        };
        let auth = RegistryAuth::Basic { username, password };
        Ok(Some(Credential::new(source, auth)))
    }
}

/// Whether a name under which something is kept is the registry's: with or without a scheme and a path.
fn is_of(key: &str, registry: &str) -> bool {
    let host = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = host.split('/').next().unwrap_or(host);
    host == registry || HUB.contains(&host) && HUB.contains(&registry)
}

/// Reads anything as a configuration, and as a program's answer.
#[cfg(any(test, feature = "testing"))]
pub(in crate::registry) fn read_hostile(text: &str, bytes: &[u8]) {
    let _ = is_of(text, "ghcr.io");
    let _ = serde_json::from_slice::<Answer>(bytes);
    let file = serde_json::from_slice::<File>(bytes).unwrap_or_default();
    for auth in file.auths.into_values().flatten() {
        let _ = auth.credential(Path::new("config.json"));
    }
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
