//! Where this node can be dialled: shown, changed, kept in the settings, and told to all counterparts.
//!
//! **Invariant:** the settings hold the new addresses before anybody is told them.

use pakt_protocol::record::address::{ADDRESSES_MAX, Address};

use super::start::{dial_rules, write_card};
use super::{Answer, Node, blocking};
use crate::api::types::*;
use crate::config::Config;

impl Node {
    /// Where counterparts are told to dial this node.
    ///
    /// # Errors
    /// When the settings cannot be read.
    pub async fn addresses(&self) -> Answer<Addresses> {
        let dir = self.inner.config.dir.clone();
        let config = blocking(move || Config::load(&dir)).await?;
        let online = self.inner.book.all().iter().filter(|one| self.inner.exchange.peer(&one.id).online).count();
        let addresses = self.inner.book.own_addresses().iter().map(|address| address.as_str().to_owned()).collect();
        Ok(Addresses { addresses, from_listen: config.advertise.is_empty(), online: online as u64 })
    }

    /// Names other addresses: in the settings, in the card, and to every counterpart, at once or at its next session.
    ///
    /// # Errors
    /// `usage` for texts that are no addresses, or when the settings cannot be written.
    pub async fn set_addresses(&self, request: AddressesRequest) -> Answer<Addresses> {
        let usage = |message: String| {
            ServiceError::new(ErrorCode::Usage, message, "write HOST:PORT, an IPv6 address in brackets")
        };
        if request.addresses.len() > ADDRESSES_MAX {
            return Err(usage(format!("a node names at most {ADDRESSES_MAX} addresses")));
        }
        for text in &request.addresses {
            text.parse::<Address>().map_err(|error| usage(format!("{text}: {error}")))?;
        }
        let _one_at_a_time = self.inner.config_file.lock().await;
        let dir = self.inner.config.dir.clone();
        let config = blocking(move || Config::set_advertise(&dir, &request.addresses)).await?;
        let told: Result<Vec<Address>, _> = config.card_addresses().iter().map(|text| text.parse()).collect();
        let told = told.map_err(|error| usage(format!("the listen address: {error}")))?;
        self.inner.dial_rules.replace(dial_rules(&config, self.inner.listen)?);
        self.inner.exchange.log().note_addresses().await?;
        self.inner.book.set_own_addresses(told);
        let (dir, book) = (config.dir.clone(), self.inner.book.clone());
        let card = blocking(move || write_card(&dir, &book)).await?;
        *self.card_text() = card;
        self.inner.exchange.addresses_changed().await;
        tracing::info!("this node's addresses were changed");
        self.addresses().await
    }
}
