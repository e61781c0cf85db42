//! The text that takes the place of a secret.

/// Implements `Debug` for a type whose content no log or message may show.
macro_rules! redacted {
    ($Secret:ty) => {
        impl std::fmt::Debug for $Secret {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($Secret), "(secret)"))
            }
        }
    };
}
pub(crate) use redacted;
