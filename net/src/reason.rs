//! The form of all enums of reasons, here and in the crate of the tunnels: one variant per reason, one stable word per variant, so
//! that a reason is also a drop counter, a metric label and a line of `stopover trace`.

/// Defines a reason enum with `ALL`, `name()`, `Display` and `Error`.
#[macro_export]
macro_rules! reasons {
    ($(#[$meta:meta])* pub enum $Enum:ident { $($(#[$doc:meta])* $Variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $Enum { $($(#[$doc])* $Variant,)+ }

        impl $Enum {
            /// Every reason, in the order of their discriminants (`ALL[r as usize] == r`).
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The stable `snake_case` word for counters, metric labels and traces.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::error::Error for $Enum {}
    };
}
pub(crate) use reasons;

/// The bytes do not hold the header of a view: too short, or its own length
/// or version fields contradict the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated;

impl std::fmt::Display for Truncated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bytes do not hold this header")
    }
}

impl std::error::Error for Truncated {}
