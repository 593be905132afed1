//! One macro for 32-byte secrets, so that all of them are wiped, redacted and compared alike.
//!
//! **Invariant:** a secret has no `Display`, prints as `Name(..)`, and equality takes constant time.

/// Defines a 32-byte secret with `generate`, `from_bytes` and `as_bytes`.
macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Draws a new secret from `rng`.
            pub fn generate(rng: &mut (impl rand_core::CryptoRng + ?Sized)) -> Self {
                let mut bytes = [0; 32];
                rand_core::Rng::fill_bytes(rng, &mut bytes);
                let secret = Self(bytes);
                zeroize::Zeroize::zeroize(&mut bytes);
                secret
            }

            /// Takes 32 secret bytes; wiping the original is the caller's task.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 secret bytes, for storing them sealed.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()).into()
            }
        }

        impl Eq for $name {}

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

pub(crate) use secret_bytes;
