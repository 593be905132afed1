//! armour
