//! The Merkle tree of RFC 6962: hashes, roots, and proofs of inclusion and consistency.
//!
//! A complete subtree is named by its last leaf and its level (2^level leaves). Its hash is known once its last leaf is,
//! so an append stores with its leaf the hashes of all subtrees that it completes, and nothing stored ever changes:
//!
//! ```text
//! leaf 0: [0]   leaf 1: [1, 0-1]   leaf 2: [2]   leaf 3: [3, 2-3, 0-3]   leaf 4: [4]
//! ```
//!
//! **Invariant:** an append, a root and a proof read at most two subtrees per level of the tree, but for its square
//! where a proof has ragged parts.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf with this content.
pub fn leaf_hash(content: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(content).finalize().into()
}

/// The hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The hashes of all complete subtrees that end with leaf `index`, the leaf's own first. `subtree` gives the hash of the
/// one that ends with an earlier leaf, by that leaf's index and its level.
///
/// # Errors
/// Those of `subtree`.
pub fn completed<E>(
    index: u64,
    leaf: Hash,
    mut subtree: impl FnMut(u64, u32) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut hashes = vec![leaf];
    let mut top = leaf;
    for level in 0..index.trailing_ones() {
        top = node_hash(&subtree(index - (1 << level), level)?, &top);
        hashes.push(top);
    }
    Ok(hashes)
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Those of `subtree`.
pub fn root<E>(size: u64, mut subtree: impl FnMut(u64, u32) -> Result<Hash, E>) -> Result<Hash, E> {
    if size == 0 {
        return Ok(empty_root());
    }
    range(0, size, &mut subtree)
}

/// The hash over the leaves from `start` to before `end`; `start` is a multiple of a power of two not below their number.
fn range<E>(start: u64, mut end: u64, subtree: &mut impl FnMut(u64, u32) -> Result<Hash, E>) -> Result<Hash, E> {
    let mut hash: Option<Hash> = None;
    while end > start {
        let level = end.trailing_zeros().min((end - start).ilog2());
        let left = subtree(end - 1, level)?;
        hash = Some(hash.map_or(left, |right| node_hash(&left, &right)));
        end -= 1 << level;
    }
    Ok(hash.unwrap_or_else(empty_root))
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// What proves that leaf `index` is in the tree of the first `size` leaves, the deepest hash first.
///
/// # Errors
/// Those of `subtree`.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    mut subtree: impl FnMut(u64, u32) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range(middle, end, &mut subtree)?);
            end = middle;
        } else {
            proof.push(range(start, middle, &mut subtree)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// What proves that the tree of the first `size` leaves begins with that of the first `earlier`, the deepest hash first.
///
/// # Errors
/// Those of `subtree`.
pub fn consistency_proof<E>(
    earlier: u64,
    size: u64,
    mut subtree: impl FnMut(u64, u32) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if earlier == 0 || earlier >= size {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, size);
    while earlier < end {
        let middle = start + split(end - start);
        if earlier <= middle {
            proof.push(range(middle, end, &mut subtree)?);
            end = middle;
        } else {
            proof.push(range(start, middle, &mut subtree)?);
            start = middle;
        }
    }
    if start > 0 {
        proof.push(range(start, end, &mut subtree)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Hashes of a proof, at most: two per level.
pub const PROOF_HASHES_MAX: usize = 130;

/// Whether `proof` shows that `leaf` is at `index` in the tree with this size and root (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            skip_lone(&mut at, &mut last);
        } else {
            hash = node_hash(&hash, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// A node without a right sibling is its own parent.
fn skip_lone(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
}

/// Whether `proof` shows that the tree `later` (size, root) begins with the tree `earlier` (RFC 9162, 2.1.4.2).
pub fn verify_consistency(earlier: (u64, &Hash), later: (u64, &Hash), proof: &[Hash]) -> bool {
    if earlier.0 == 0 || earlier.0 >= later.0 {
        let is_same = earlier == later || (earlier.0 == 0 && *earlier.1 == empty_root());
        return proof.is_empty() && is_same;
    }
    let whole = earlier.0.is_power_of_two().then_some(*earlier.1);
    let mut steps = whole.iter().chain(proof);
    let Some(first) = steps.next() else { return false };
    let skipped = (earlier.0 - 1).trailing_ones();
    let (mut at, mut last) = ((earlier.0 - 1) >> skipped, (later.0 - 1) >> skipped);
    let (mut old, mut new) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (node_hash(step, &old), node_hash(step, &new));
            skip_lone(&mut at, &mut last);
        } else {
            new = node_hash(&new, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *earlier.1 && new == *later.1
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Tree(Vec<Vec<Hash>>);

    impl Tree {
        fn of(contents: &[Vec<u8>]) -> Tree {
            let mut tree = Tree::default();
            for content in contents {
                let index = tree.0.len() as u64;
                let hashes = completed(index, leaf_hash(content), |end, level| tree.subtree(end, level));
                tree.0.push(hashes.unwrap_or_default());
            }
            tree
        }

        fn subtree(&self, end: u64, level: u32) -> Result<Hash, Infallible> {
            Ok(self.0[end as usize][level as usize])
        }

        fn root(&self, size: usize) -> Hash {
            root(size as u64, |end, level| self.subtree(end, level)).unwrap_or_default()
        }
    }

    /// The definition of RFC 6962 as it stands there.
    fn by_definition(contents: &[Vec<u8>]) -> Hash {
        match contents {
            [] => empty_root(),
            [only] => leaf_hash(only),
            several => {
                let (left, right) = several.split_at(split(several.len() as u64) as usize);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_roots_of_certificate_transparency() {
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let contents: Vec<Vec<u8>> = leaves.iter().map(|leaf| hex::decode(leaf).expect("hex")).collect();
        let tree = Tree::of(&contents);
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(hex::encode(tree.root(size)), *root, "{size} leaves");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn p25_every_proof_holds_and_no_changed_one(
            count in 1usize..70,
            picks in any::<[prop::sample::Index; 3]>(),
            bit in 0usize..256,
        ) {
            let contents: Vec<Vec<u8>> = (0..count).map(|at| vec![at as u8; at % 5]).collect();
            let tree = Tree::of(&contents);
            let subtree = |end, level| tree.subtree(end, level);
            let size = 1 + picks[0].index(count);
            let (earlier, index) = (picks[1].index(size + 1), picks[2].index(size));
            let (new, old) = (tree.root(size), tree.root(earlier));
            prop_assert_eq!(new, by_definition(&contents[..size]));
            let proof = inclusion_proof(index as u64, size as u64, subtree).unwrap_or_default();
            let leaf = leaf_hash(&contents[index]);
            let included = |leaf, index: usize, proof: &[Hash]| {
                verify_inclusion(&leaf, index as u64, size as u64, proof, &new)
            };
            prop_assert!(included(leaf, index, &proof));
            prop_assert!(!included(leaf_hash(b"another"), index, &proof));
            prop_assert!(proof.len() <= PROOF_HASHES_MAX);
            let consistency = consistency_proof(earlier as u64, size as u64, subtree).unwrap_or_default();
            let pair = (earlier as u64, &old);
            prop_assert!(verify_consistency(pair, (size as u64, &new), &consistency));
            let flip = |hash: &Hash| { let mut hash = *hash; hash[bit / 8] ^= 1 << (bit % 8); hash };
            if earlier > 0 {
                prop_assert!(!verify_consistency((earlier as u64, &flip(&old)), (size as u64, &new), &consistency));
                prop_assert!(!verify_consistency(pair, (size as u64, &flip(&new)), &consistency));
            }
            for at in 0..consistency.len() {
                let mut changed = consistency.clone();
                changed[at] = flip(&changed[at]);
                prop_assert!(!verify_consistency(pair, (size as u64, &new), &changed));
            }
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at] = flip(&changed[at]);
                prop_assert!(!included(leaf, index, &changed));
            }
            prop_assert!(!included(leaf, index, &[proof, vec![leaf]].concat()));
        }
    }
}
