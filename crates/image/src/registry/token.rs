//! Logging in: the answer to a registry's 401.
//!
//! The registry names what it accepts (RFC 7235). `Basic` is the password itself, in each request. `Bearer` is a
//! token, from a service that it names as well, for one repository and an hour or so; the service gives it for
//! a password, for what stands for a login, or for nothing, if everybody may pull.

use oci_client::token_cache::RegistryToken;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::client::{Get, Repository};
use super::credential::Secret;
use super::error::{Failure, RegistryError};
use super::outcome;

/// The longest answer of a token service, in bytes.
const MAX_TOKEN: u64 = 256 << 10;

/// How a registry wants to know who we are.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Repository {
    /// What lets us in, after a request that showed `shown` was not.
    pub(super) async fn log_in(
        &self,
        refusal: &Response,
        shown: Option<HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let _asking = self.inner.asking.lock().await;
        // Somebody was at it while we waited, and got something else.
        if let Some(known) = self
            .authorization()
            .filter(|known| Some(known) != shown.as_ref())
        {
            return Ok(known);
        }
        let headers = refusal.headers().get_all(WWW_AUTHENTICATE);
        let challenge = best(headers.iter().filter_map(|header| header.to_str().ok()));
        let fresh = match challenge {
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service).await?,
            Some(Challenge::Basic) => self.password()?,
            None => return Err(self.refused(refusal.status().as_u16()).into()),
        };
        // What was refused once will be again.
        if Some(&fresh) == shown.as_ref() {
            return Err(self.refused(refusal.status().as_u16()).into());
        }
        self.remember(&fresh);
        Ok(fresh)
    }

    fn password(&self) -> Result<HeaderValue, Failure> {
        let Secret::Password { username, password } = &self.inner.credential.secret else {
            return Err(self.refused(StatusCode::UNAUTHORIZED.as_u16()).into());
        };
        let built = basic(self.inner.http.get("http://localhost/"), username, password).build();
        let header = built
            .ok()
            .and_then(|mut built| built.headers_mut().remove(AUTHORIZATION));
        header.ok_or_else(|| self.refused(StatusCode::UNAUTHORIZED.as_u16()).into())
    }

    async fn token(&self, realm: &str, service: Option<String>) -> Result<HeaderValue, Failure> {
        let request = self.token_request(realm, service)?;
        let get = Get {
            path: "",
            accept: "",
            from: 0,
            what: "the token",
        };
        let response = self.answer(request).await?;
        let response = match response.status() {
            // What the service does not know or like is who we are.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => {
                return Err(self.refused(response.status().as_u16()).into());
            }
            _ => self.judge(get, response).await?,
        };
        let body = self.body(response, MAX_TOKEN, "the token").await?;
        let malformed = |detail: String| RegistryError::Malformed {
            registry: self.registry(),
            what: "the token".to_owned(),
            detail,
        };
        // The text of the error could hold a part of the token.
        let token: RegistryToken = serde_json::from_slice(&body)
            .map_err(|_| malformed("it is not JSON with a token".into()))?;
        let header = HeaderValue::try_from(token.bearer_token());
        let mut header = header.map_err(|_| malformed("it has bytes that no token has".into()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    fn token_request(
        &self,
        realm: &str,
        service: Option<String>,
    ) -> Result<RequestBuilder, Failure> {
        let malformed = |detail: &str| RegistryError::Malformed {
            registry: self.registry(),
            what: "what it says of its token service".to_owned(),
            detail: detail.to_owned(),
        };
        let mut url = Url::parse(realm).map_err(|error| malformed(&error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if self.inner.insecure => {}
            "http" => {
                return Err(Failure::Final(RegistryError::Downgrade {
                    registry: self.registry(),
                    to: url.origin().ascii_serialization(),
                }));
            }
            _ => return Err(malformed("its address is not of the web").into()),
        }
        let scope = format!("repository:{}:pull", self.inner.name);
        let http = &self.inner.http;
        let ask = |url: &mut Url, more: &[(&str, &str)]| {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("scope", &scope);
            if let Some(service) = &service {
                pairs.append_pair("service", service);
            }
            pairs.extend_pairs(more);
        };
        Ok(match &self.inner.credential.secret {
            Secret::None => {
                ask(&mut url, &[]);
                http.get(url)
            }
            Secret::Password { username, password } => {
                ask(&mut url, &[("account", username)]);
                basic(http.get(url), username, password)
            }
            Secret::Identity(token) => {
                let mut form = url.clone();
                form.set_query(None);
                let more = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "microsandbox"),
                    ("refresh_token", token.as_str()),
                ];
                ask(&mut form, &more);
                let body = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                http.post(url).header(CONTENT_TYPE, kind).body(body)
            }
        })
    }
}

fn basic(request: RequestBuilder, username: &str, password: &str) -> RequestBuilder {
    request.basic_auth(username, Some(password))
}

/// The best of what a registry offers: a token, which is good for little else, before a password.
fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for header in headers {
        for challenge in http_auth::parser::ChallengeParser::new(header) {
            // What comes after one that cannot be read is not looked at.
            let Ok(challenge) = challenge else { break };
            let param = |name: &str| {
                let mut params = challenge.params.iter();
                let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| outcome::cut(&value.to_unescaped()))
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = param("realm") {
                    let service = param("service");
                    return Some(Challenge::Bearer { realm, service });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}

/// Reads anything as what a registry and its token service say.
#[cfg(any(test, feature = "testing"))]
pub(super) fn read_hostile(text: &str, bytes: &[u8]) {
    if let Some(Challenge::Bearer { realm, .. }) = best([text, text].into_iter()) {
        let _ = Url::parse(&realm);
    }
    let token: Result<RegistryToken, _> = serde_json::from_slice(bytes);
    let _ = token.map(|token| HeaderValue::try_from(token.bearer_token()));
    let _ = serde_json::from_slice::<oci_client::errors::OciEnvelope>(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_said_is_read_or_left(text in ".{0,60}", bytes: Vec<u8>) {
            super::super::testing::read_hostile(&bytes);
            super::super::testing::read_hostile(text.as_bytes());
        }

        #[test]
        fn whatever_challenge_it_is_is_read_or_left(
            parts in prop::collection::vec(prop::sample::select(vec![
                "Bearer", "Basic", " ", "realm", "=", "\"", ",", "https://a.example/t", "service", "\\", "x", "\t",
            ]), 0..20),
        ) {
            let text = parts.concat();
            if let Some(Challenge::Bearer { realm, .. }) = best([text.as_str()].into_iter()) {
                prop_assert!(text.contains("realm") || realm.is_empty());
            }
            read_hostile(&text, text.as_bytes());
        }

        #[test]
        fn a_part_begins_where_it_says(first: u64, last: u64, total: u64) {
            let range = format!("bytes {first}-{last}/{total}");
            prop_assert_eq!(super::super::blob::first_byte(&range), Some(first));
            let unknown = format!("bytes {first}-{last}/*");
            prop_assert_eq!(super::super::blob::first_byte(&unknown), Some(first));
        }
    }

    #[test]
    fn a_token_comes_before_a_password() {
        let bearer = |service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: service.map(str::to_owned),
            })
        };
        let long =
            r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a:pull""#;
        for (headers, wanted) in [
            (vec![long], bearer(Some("r"))),
            (vec!["Basic realm=\"x\"", long], bearer(Some("r"))),
            (
                vec![r#"BASIC realm="x", bearer Realm="https://auth.example/token""#],
                bearer(None),
            ),
            (vec!["Basic realm=\"x\""], Some(Challenge::Basic)),
            (vec!["Bearer service=\"r\""], None),
            (vec!["Negotiate"], None),
            (vec!["", "\u{1}", "Basic realm=\"x"], None),
            (vec![], None),
        ] {
            assert_eq!(best(headers.iter().copied()), wanted, "{headers:?}");
        }
    }
}
