//! The shape of all views of headers: a reference to a fixed number of bytes. The module of the header adds the check
//! (`new_checked`) and the accessors, which read constant positions.

/// Defines a view of the given number of bytes.
macro_rules! view {
    ($(#[$meta:meta])* pub struct $View:ident[$len:expr];) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $View<'a>(&'a [u8; $len]);

        impl<'a> $View<'a> {
            /// A view of bytes of this length. Their content is not checked.
            #[inline]
            #[must_use]
            pub const fn of(bytes: &'a [u8; $len]) -> Self {
                Self(bytes)
            }
        }
    };
}
pub(crate) use view;
