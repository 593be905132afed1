//! Addresses that counterparts tell.

use super::*;
use pakt_protocol::record::address_update::AddressUpdate;

fn texts(addresses: &[Address]) -> Vec<&str> {
    addresses.iter().map(Address::as_str).collect()
}

fn forged(from: &Node, to: &Node, id: AgreementId, counter: u64, addresses: usize) -> Signed<AddressUpdate> {
    let address = |n: usize| format!("10.0.0.{n}:1").parse().unwrap();
    let addresses = (0..addresses).map(address).collect();
    let update = AddressUpdate { issuer: from.id(), reader: to.id(), agreement: id, counter, addresses };
    let own = from.book.inner.entity.current();
    Signed::create(&update, |domain, bytes| own.statement().sign(domain, bytes))
}

#[tokio::test]
async fn p5_older_addresses_do_not_come_back() {
    let (a, b, id) = agreed().await;
    let first = b.book.own_address_update(&id).await.unwrap();
    assert_eq!(a.book.take_addresses(&id, &first).await, Ok(true));
    assert_eq!(b.book.own_address_update(&id).await.unwrap(), first, "nothing changed, nothing new is signed");

    b.book.set_own_addresses(vec!["[2001:db8::1]:7".parse().unwrap()]);
    let second = b.book.own_address_update(&id).await.unwrap();
    assert_eq!(a.book.take_addresses(&id, &second).await, Ok(true));
    assert_eq!(a.book.take_addresses(&id, &second).await, Ok(false), "the same again");
    assert!(a.book.take_addresses(&id, &first).await.is_err());
    let twin = forged(&b, &a, id, second.peek().unwrap().counter, 1);
    assert!(a.book.take_addresses(&id, &twin).await.is_err(), "another list with the same number");
    assert!(a.book.take_addresses(&id, &forged(&b, &a, id, u64::MAX, 9)).await.is_err(), "nine addresses");
    assert!(a.book.take_addresses(&id, &forged(&a, &a, id, u64::MAX, 1)).await.is_err(), "signed by another");
    assert_eq!(texts(&a.book.get(&id).unwrap().addresses), ["[2001:db8::1]:7"]);

    let a = a.restart();
    assert_eq!(texts(&a.book.get(&id).unwrap().addresses), ["[2001:db8::1]:7"], "after a restart");
    assert!(a.book.take_addresses(&id, &first).await.is_err());
    a.book.note_contact(&id, &b.hello().chain, 0).await.unwrap();
    a.book.end(&id, &a.root()).await.unwrap();
    let later = forged(&b, &a, id, u64::MAX, 1);
    assert!(a.book.take_addresses(&id, &later).await.is_err(), "after the end");
}
