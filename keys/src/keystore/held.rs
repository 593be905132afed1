//! The root at rest: open, or sealed so that two of the named approvers must open it together.
//!
//! Each approver has a key pair whose private half only that person's passphrase opens. For each pair of approvers the root
//! is split into two halves, each worthless alone, one sealed to each of the two. So an approver can be added or removed by
//! whoever has the root open, without the passphrases of the others.
//!
//! **Invariant:** once two approvers are named, no single passphrase and no key of the node gives any bit of the root.
//! **Invariant:** one attempt costs two passes of Argon2 at most, whatever the file asks for.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::head::{self, Argon2Params};
use crate::hedged;
use crate::sealing::{ContactKey, ContactPublic, Wrapped};
use crate::signing::{RootKey, RootPublic};

/// Approvers of one root, at most.
pub const APPROVERS_MAX: usize = 8;
/// How many of them must approve, once there are so many.
pub const APPROVALS: usize = 2;
/// Bytes of an approver's name, at most.
pub const APPROVER_NAME_BYTES_MAX: usize = 64;

/// Somebody whose approval opens the root, together with one other's.
#[derive(Clone, Serialize, Deserialize)]
pub struct Approver {
    name: String,
    public: ContactPublic,
    /// Memory in KiB, passes and lanes of Argon2id.
    cost: [u32; 3],
    salt: [u8; 32],
    /// The private half, under the approver's passphrase.
    #[serde(with = "crate::codec::bytes")]
    sealed: Vec<u8>,
}

/// One name and passphrase, as a person gives them for one signature.
#[derive(Clone, Copy)]
pub struct Approval<'a> {
    /// The approver's name.
    pub name: &'a str,
    /// The approver's passphrase.
    pub passphrase: &'a [u8],
}

/// Why a root does not open, or its approvers cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Fewer or more than two approvals.
    #[error("the root needs the approval of two persons, {0} approved")]
    NotTwo(usize),
    /// The same name twice.
    #[error("the two approvals are by the same person, {0}")]
    SamePerson(String),
    /// Nobody of this name is an approver.
    #[error("there is no approver named {0}")]
    Unknown(String),
    /// The passphrase is not that person's.
    #[error("this is not the passphrase of {0}")]
    WrongPassphrase(String),
    /// An empty passphrase protects nothing.
    #[error("the passphrase of {0} is empty")]
    EmptyPassphrase(String),
    /// There is an approver of this name.
    #[error("there is an approver named {0} already")]
    Exists(String),
    /// No further approver.
    #[error("there are {APPROVERS_MAX} approvers already")]
    TooMany,
    /// The name is empty, too long, or holds '=' or characters that cannot be seen.
    #[error("an approver's name has 1 to {APPROVER_NAME_BYTES_MAX} bytes, no '=' and only visible characters")]
    Name,
    /// The root that was given is another one.
    #[error("this is another root")]
    OtherRoot,
    /// What lies there does not fit together.
    #[error("the root at rest is damaged: restore it from a backup")]
    Damaged,
    /// This machine has not the memory that the parameters ask for.
    #[error("there is not enough memory to check the passphrase")]
    OutOfMemory,
}

impl Approver {
    /// Names an approver and seals a new key of theirs under `passphrase`.
    ///
    /// # Errors
    /// [`ApprovalError::Name`], [`ApprovalError::EmptyPassphrase`] or [`ApprovalError::OutOfMemory`].
    pub fn create(
        name: &str,
        passphrase: &[u8],
        params: Argon2Params,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Approver, ApprovalError> {
        let visible = |c: char| !c.is_control() && c != '=';
        let fits = (1..=APPROVER_NAME_BYTES_MAX).contains(&name.len()) && name.trim() == name;
        if !fits || !name.chars().all(visible) {
            return Err(ApprovalError::Name);
        }
        let key = ContactKey::generate(rng);
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        let cost = params.to_array();
        let mut approver = Approver { name: name.to_owned(), public: key.public(), cost, salt, sealed: vec![] };
        let master = approver.master(passphrase)?;
        approver.sealed = hedged::seal(&master, &approver.context(), key.to_bytes().as_slice(), rng);
        Ok(approver)
    }

    /// The approver's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells this approver from others without the name: the BLAKE3 hash of the public key.
    pub fn fingerprint(&self) -> [u8; 32] {
        *blake3::hash(self.public.as_bytes()).as_bytes()
    }

    fn context(&self) -> [&[u8]; 3] {
        [b"approver", self.name.as_bytes(), self.public.as_bytes()]
    }

    fn master(&self, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, ApprovalError> {
        if passphrase.is_empty() {
            return Err(ApprovalError::EmptyPassphrase(self.name.clone()));
        }
        let [memory_kib, passes, lanes] = self.cost;
        let params = Argon2Params::new(memory_kib, passes, lanes).map_err(|_| ApprovalError::Damaged)?;
        head::harden(passphrase, &self.salt, params).map_err(|_| ApprovalError::OutOfMemory)
    }

    fn unlock(&self, passphrase: &[u8]) -> Result<ContactKey, ApprovalError> {
        let master = self.master(passphrase)?;
        let wrong = || ApprovalError::WrongPassphrase(self.name.clone());
        let key = hedged::open(&master, &self.context(), &self.sealed).ok_or_else(wrong)?;
        let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| ApprovalError::Damaged)?;
        Ok(ContactKey::from_bytes(key))
    }
}

impl std::fmt::Debug for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Approver(..)")
    }
}

impl std::fmt::Debug for Approval<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Approval(..)")
    }
}

/// The root, split between two approvers.
#[derive(Clone, Serialize, Deserialize)]
struct Pair {
    first: u8,
    second: u8,
    to_first: Wrapped,
    to_second: Wrapped,
}

impl Pair {
    fn seal(root: &RootKey, (first, second): (u8, u8), of: &[Approver], rng: &mut (impl CryptoRng + ?Sized)) -> Pair {
        let [one, other] = [&of[usize::from(first)], &of[usize::from(second)]];
        let mut mask = Zeroizing::new([0; 32]);
        rng.fill_bytes(mask.as_mut_slice());
        let masked = xor(&mask, &root.seed());
        let info = |part: u8| info(&root.public(), one, other, part);
        let to_first = one.public.wrap(&info(1), mask.as_slice(), rng);
        let to_second = other.public.wrap(&info(2), masked.as_slice(), rng);
        Pair { first, second, to_first, to_second }
    }
}

fn xor(a: &[u8; 32], b: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(std::array::from_fn(|at| a[at] ^ b[at]))
}

fn info(root: &RootPublic, first: &Approver, second: &Approver, part: u8) -> Vec<u8> {
    [b"pakt approval v1".as_slice(), &root.0, first.public.as_bytes(), second.public.as_bytes(), &[part]].concat()
}

/// A root as it lies in a keystore or a root file.
pub struct HeldRoot {
    public: RootPublic,
    approvers: Vec<Approver>,
    form: Form,
}

enum Form {
    Open(RootKey),
    Sealed(Vec<Pair>),
}

impl HeldRoot {
    /// A root that nobody has to approve.
    pub fn open(root: RootKey) -> HeldRoot {
        HeldRoot { public: root.public(), approvers: vec![], form: Form::Open(root) }
    }

    /// The public half.
    pub fn public(&self) -> RootPublic {
        self.public
    }

    /// Who may approve.
    pub fn approvers(&self) -> &[Approver] {
        &self.approvers
    }

    /// Whether two persons must approve each signature.
    pub fn needs_approvals(&self) -> bool {
        matches!(self.form, Form::Sealed(_))
    }

    /// The root itself; approvals are looked at only where they are needed.
    ///
    /// # Errors
    /// An [`ApprovalError`] that says what is missing.
    pub fn key(&self, approvals: &[Approval<'_>]) -> Result<RootKey, ApprovalError> {
        let pairs = match &self.form {
            Form::Open(root) => return Ok(RootKey::from_seed(*root.seed())),
            Form::Sealed(pairs) => pairs,
        };
        let [one, other] = approvals else { return Err(ApprovalError::NotTwo(approvals.len())) };
        if one.name == other.name {
            return Err(ApprovalError::SamePerson(one.name.to_owned()));
        }
        let (mut first, mut second) = (self.place_of(one)?, self.place_of(other)?);
        let (mut one, mut other) = (one, other);
        if first > second {
            (first, second) = (second, first);
            (one, other) = (other, one);
        }
        let of_these = |pair: &&Pair| (usize::from(pair.first), usize::from(pair.second)) == (first, second);
        let pair = pairs.iter().find(of_these).ok_or(ApprovalError::Damaged)?;
        let half = |who: &Approver, approval: &Approval<'_>, part: u8, wrapped: &Wrapped| {
            let info = info(&self.public, &self.approvers[first], &self.approvers[second], part);
            let half = who.unlock(approval.passphrase)?.unwrap(&info, wrapped);
            let half: Result<[u8; 32], _> = half.map_err(|_| ApprovalError::Damaged)?.as_slice().try_into();
            half.map(Zeroizing::new).map_err(|_| ApprovalError::Damaged)
        };
        let mask = half(&self.approvers[first], one, 1, &pair.to_first)?;
        let masked = half(&self.approvers[second], other, 2, &pair.to_second)?;
        let root = RootKey::from_seed(*xor(&mask, &masked));
        if root.public() == self.public { Ok(root) } else { Err(ApprovalError::Damaged) }
    }

    fn place_of(&self, approval: &Approval<'_>) -> Result<usize, ApprovalError> {
        let place = self.approvers.iter().position(|approver| approver.name == approval.name);
        place.ok_or_else(|| ApprovalError::Unknown(approval.name.to_owned()))
    }

    /// Whether one of the approvers has this passphrase: then one person could approve for two. Blocks: each approver costs a
    /// moment.
    ///
    /// # Errors
    /// [`ApprovalError::EmptyPassphrase`], [`ApprovalError::Damaged`] or [`ApprovalError::OutOfMemory`].
    pub fn knows_passphrase(&self, passphrase: &[u8]) -> Result<bool, ApprovalError> {
        for approver in &self.approvers {
            match approver.unlock(passphrase) {
                Ok(_) => return Ok(true),
                Err(ApprovalError::WrongPassphrase(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The same root with one approver more; from the second on, two must approve.
    ///
    /// # Errors
    /// [`ApprovalError::OtherRoot`], [`ApprovalError::Exists`] or [`ApprovalError::TooMany`].
    pub fn with_approver(
        &self,
        root: &RootKey,
        approver: Approver,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<HeldRoot, ApprovalError> {
        if self.approvers.iter().any(|known| known.name == approver.name) {
            return Err(ApprovalError::Exists(approver.name));
        }
        let approvers = self.approvers.iter().cloned().chain([approver]).collect();
        self.resealed(root, approvers, rng)
    }

    /// The same root without one approver; with one left, nobody has to approve.
    ///
    /// # Errors
    /// [`ApprovalError::OtherRoot`] or [`ApprovalError::Unknown`].
    pub fn without_approver(
        &self,
        root: &RootKey,
        name: &str,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<HeldRoot, ApprovalError> {
        let others: Vec<Approver> = self.approvers.iter().filter(|known| known.name != name).cloned().collect();
        if others.len() == self.approvers.len() {
            return Err(ApprovalError::Unknown(name.to_owned()));
        }
        self.resealed(root, others, rng)
    }

    fn resealed(
        &self,
        root: &RootKey,
        approvers: Vec<Approver>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<HeldRoot, ApprovalError> {
        if root.public() != self.public {
            return Err(ApprovalError::OtherRoot);
        }
        if approvers.len() > APPROVERS_MAX {
            return Err(ApprovalError::TooMany);
        }
        Ok(HeldRoot::sealed(root, approvers, rng))
    }

    /// Another root, under the approvers of this one.
    pub fn replaced_by(&self, root: &RootKey, rng: &mut (impl CryptoRng + ?Sized)) -> HeldRoot {
        HeldRoot::sealed(root, self.approvers.clone(), rng)
    }

    fn sealed(root: &RootKey, approvers: Vec<Approver>, rng: &mut (impl CryptoRng + ?Sized)) -> HeldRoot {
        let count = approvers.len() as u8;
        let form = if approvers.len() < APPROVALS {
            Form::Open(RootKey::from_seed(*root.seed()))
        } else {
            let pairs = (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second)));
            Form::Sealed(pairs.map(|pair| Pair::seal(root, pair, &approvers, rng)).collect())
        };
        HeldRoot { public: root.public(), approvers, form }
    }

    /// A copy, as secret as the original.
    pub fn duplicate(&self) -> HeldRoot {
        let form = match &self.form {
            Form::Open(root) => Form::Open(RootKey::from_seed(*root.seed())),
            Form::Sealed(pairs) => Form::Sealed(pairs.clone()),
        };
        HeldRoot { public: self.public, approvers: self.approvers.clone(), form }
    }
}

impl std::fmt::Debug for HeldRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldRoot(approvers: {}, ..)", self.approvers.len())
    }
}

/// A root as it is encoded within a sealed file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct HeldBody {
    #[zeroize(skip)]
    public: RootPublic,
    seed: Option<[u8; 32]>,
    #[zeroize(skip)]
    approvers: Vec<Approver>,
    #[zeroize(skip)]
    pairs: Vec<Pair>,
}

impl HeldBody {
    pub(super) fn of(held: &HeldRoot) -> HeldBody {
        let (seed, pairs) = match &held.form {
            Form::Open(root) => (Some(*root.seed()), vec![]),
            Form::Sealed(pairs) => (None, pairs.clone()),
        };
        HeldBody { public: held.public, seed, approvers: held.approvers.clone(), pairs }
    }

    /// The root, if the parts fit together.
    pub(super) fn held(&self) -> Option<HeldRoot> {
        let form = match self.seed {
            Some(seed) => Form::Open(RootKey::from_seed(seed)),
            None => Form::Sealed(self.pairs.clone()),
        };
        let fits = match &form {
            Form::Open(root) => root.public() == self.public && self.approvers.len() < APPROVALS,
            Form::Sealed(_) => (APPROVALS..=APPROVERS_MAX).contains(&self.approvers.len()),
        };
        fits.then(|| HeldRoot { public: self.public, approvers: self.approvers.clone(), form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    const CHEAP: Argon2Params = match Argon2Params::new(8, 1, 1) {
        Ok(params) => params,
        Err(_) => panic!(),
    };

    fn root() -> RootKey {
        RootKey::from_seed([7; 32])
    }

    fn approver(name: &str) -> Approver {
        Approver::create(name, name.to_uppercase().as_bytes(), CHEAP, &mut TestRng::new(name.len() as u64)).unwrap()
    }

    fn held(names: &[&str]) -> HeldRoot {
        let rng = &mut TestRng::new(1);
        names
            .iter()
            .fold(HeldRoot::open(root()), |held, name| held.with_approver(&root(), approver(name), rng).unwrap())
    }

    fn approvals<'a>(given: &[(&'a str, &'a str)]) -> Vec<Approval<'a>> {
        given.iter().map(|(name, word)| Approval { name, passphrase: word.as_bytes() }).collect()
    }

    #[test]
    fn one_approver_changes_nothing_two_must_agree() {
        assert!(!held(&[]).needs_approvals() && !held(&["a"]).needs_approvals());
        assert_eq!(held(&["a"]).key(&[]).unwrap().seed(), root().seed());
        let three = held(&["a", "bb", "ccc"]);
        assert!(three.needs_approvals());
        for pair in [[("a", "A"), ("bb", "BB")], [("ccc", "CCC"), ("a", "A")], [("bb", "BB"), ("ccc", "CCC")]] {
            assert_eq!(three.key(&approvals(&pair)).unwrap().seed(), root().seed(), "{pair:?}");
        }
    }

    #[test]
    fn fewer_the_same_and_wrong_ones_open_nothing() {
        use ApprovalError::*;
        let held = held(&["a", "bb", "ccc"]);
        let check = |given: &[(&str, &str)], error: ApprovalError| {
            assert_eq!(held.key(&approvals(given)).map(drop), Err(error), "{given:?}");
        };
        check(&[], NotTwo(0));
        check(&[("a", "A")], NotTwo(1));
        check(&[("a", "A"), ("bb", "BB"), ("ccc", "CCC")], NotTwo(3));
        check(&[("a", "A"), ("a", "A")], SamePerson("a".into()));
        check(&[("a", "A"), ("d", "D")], Unknown("d".into()));
        check(&[("a", "A"), ("bb", "A")], WrongPassphrase("bb".into()));
        check(&[("a", ""), ("bb", "BB")], EmptyPassphrase("a".into()));
    }

    #[test]
    fn approvers_come_and_go_while_the_root_is_open() {
        let rng = &mut TestRng::new(3);
        let three = held(&["a", "bb", "ccc"]);
        assert_eq!(three.with_approver(&root(), approver("a"), rng).unwrap_err(), ApprovalError::Exists("a".into()));
        let other = RootKey::from_seed([8; 32]);
        assert_eq!(three.with_approver(&other, approver("d"), rng).unwrap_err(), ApprovalError::OtherRoot);
        assert_eq!(three.without_approver(&root(), "d", rng).unwrap_err(), ApprovalError::Unknown("d".into()));
        let two = three.without_approver(&root(), "a", rng).unwrap();
        assert_eq!(two.key(&approvals(&[("a", "A"), ("bb", "BB")])).unwrap_err(), ApprovalError::Unknown("a".into()));
        assert!(two.key(&approvals(&[("ccc", "CCC"), ("bb", "BB")])).is_ok());
        assert!(!two.without_approver(&root(), "bb", rng).unwrap().needs_approvals());
        let next = two.replaced_by(&other, rng);
        assert_eq!(next.key(&approvals(&[("ccc", "CCC"), ("bb", "BB")])).unwrap().seed(), other.seed());
        let names: Vec<String> = (0..APPROVERS_MAX).map(|at| format!("n{at}")).collect();
        let full = held(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(full.with_approver(&root(), approver("more"), rng).unwrap_err(), ApprovalError::TooMany);
    }

    #[test]
    fn names_can_be_typed_and_seen() {
        for bad in ["", " a", "a=b", "a\nb", &"x".repeat(65)] {
            let made = Approver::create(bad, b"word", CHEAP, &mut TestRng::new(1));
            assert_eq!(made.map(drop), Err(ApprovalError::Name), "{bad:?}");
        }
        let made = Approver::create("a", b"", CHEAP, &mut TestRng::new(1));
        assert_eq!(made.map(drop), Err(ApprovalError::EmptyPassphrase("a".into())));
    }

    #[test]
    fn what_is_sealed_holds_no_bit_of_the_root_in_the_open() {
        let body = HeldBody::of(&held(&["a", "bb"]));
        let bytes = crate::codec::encode(1, &body);
        let seed = root().seed();
        assert!(!bytes.windows(8).any(|window| window == &seed[..8]));
        let mut unsealed = HeldBody::of(&held(&["a", "bb"]));
        unsealed.seed = Some(*seed);
        assert!(unsealed.held().is_none(), "open beside two approvers is damage");
        let mut foreign = HeldBody::of(&held(&["a"]));
        foreign.public = RootKey::from_seed([8; 32]).public();
        assert!(foreign.held().is_none());
        let text = format!("{:?} {:?}", held(&["a", "bb"]), approver("a"));
        assert_eq!(text, "HeldRoot(approvers: 2, ..) Approver(..)");
    }
}
