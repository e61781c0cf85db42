//! `--key value` pairs. A key that nothing takes is an error.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The pairs that are not taken yet.
#[derive(Debug)]
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Splits the command line.
    pub fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut pairs = BTreeMap::new();
        for pair in words.chunks(2) {
            match pair {
                [key, value] if key.starts_with("--") => {
                    if pairs.insert(key[2..].to_owned(), value.clone()).is_some() {
                        bail!("{key} is given twice");
                    }
                }
                _ => bail!("`{}`: --key value was expected", pair.join(" ")),
            }
        }
        Ok(Self(pairs))
    }

    /// Takes the value of a key that may be missing.
    pub fn optional<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &mut self,
        key: &str,
    ) -> anyhow::Result<Option<T>> {
        self.0.remove(key).map(|v| v.parse().with_context(|| format!("--{key} {v}"))).transpose()
    }

    /// Takes the value of a key.
    pub fn required<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &mut self,
        key: &str,
    ) -> anyhow::Result<T> {
        self.optional(key)?.with_context(|| format!("--{key} is missing"))
    }

    /// Returns an error if a pair is not taken.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.0.keys().next() {
            Some(key) => bail!("--{key} is unknown"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> anyhow::Result<Args> {
        Args::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn accepts_known_keys_and_refuses_others() {
        let mut a = args("--rate 5000 --to 10.0.0.1:7 --odd 1").unwrap();
        assert_eq!(a.required::<u64>("rate").unwrap(), 5000);
        assert_eq!(a.required::<std::net::SocketAddr>("to").unwrap().port(), 7);
        assert_eq!(a.optional::<u64>("size").unwrap(), None);
        assert_eq!(a.required::<u64>("size").unwrap_err().to_string(), "--size is missing");
        assert_eq!(a.finish().unwrap_err().to_string(), "--odd is unknown");
    }

    #[test]
    fn refuses_arguments_that_are_not_pairs() {
        assert!(args("--rate").is_err());
        assert!(args("rate 1").is_err());
        assert!(args("--rate 1 --rate 2").is_err());
        assert!(args("--rate x").unwrap().required::<u64>("rate").is_err());
    }
}
