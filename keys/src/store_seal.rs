//! store_seal
