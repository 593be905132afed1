//! Signatures of the service that the API talks to.
#![allow(missing_docs, clippy::unused_async)]

use std::pin::Pin;

use pakt_keys::keystore::Keystore;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::api::types::*;
use crate::config::Config;

type Answer<T> = Result<T, ServiceError>;

#[derive(Clone)]
pub struct Node {
    changes: tokio::sync::watch::Receiver<u64>,
}

pub async fn start(_c: Config, _k: Keystore, _t: CancellationToken) -> anyhow::Result<Node> {
    anyhow::bail!("absent")
}

fn absent<T>() -> Answer<T> {
    Err(ServiceError::new(ErrorCode::Failed, "absent", ""))
}

impl Node {
    pub async fn status(&self) -> Answer<Status> {
        absent()
    }
    pub async fn peers(&self) -> Answer<Vec<Peer>> {
        absent()
    }
    pub async fn card(&self) -> Answer<String> {
        absent()
    }
    pub async fn agreements(&self) -> Answer<Vec<AgreementSummary>> {
        absent()
    }
    pub async fn propose(&self, _r: ProposeRequest) -> Answer<Vec<Proposal>> {
        absent()
    }
    pub async fn accept(&self, _r: AcceptRequest) -> Answer<Accepted> {
        absent()
    }
    pub async fn import(&self, _r: ImportRequest) -> Answer<AgreementSummary> {
        absent()
    }
    pub async fn export(&self, _id: String) -> Answer<String> {
        absent()
    }
    pub async fn agreement(&self, _id: String) -> Answer<AgreementDetail> {
        absent()
    }
    pub async fn end(&self, _id: String) -> Answer<AgreementSummary> {
        absent()
    }
    pub async fn groups(&self) -> Answer<Vec<Group>> {
        absent()
    }
    pub async fn group_add(&self, _name: String) -> Answer<Group> {
        absent()
    }
    pub async fn group_show(&self, _name: String, _to: String) -> Answer<Group> {
        absent()
    }
    pub async fn group_hide(&self, _name: String, _to: String) -> Answer<Group> {
        absent()
    }
    pub async fn draft(&self, _m: NewMessage) -> Answer<Draft> {
        absent()
    }
    pub async fn submit(&self, _draft: String, _c: Pin<Box<dyn AsyncRead + Send>>) -> Answer<Sent> {
        absent()
    }
    pub async fn outbox_list(&self) -> Answer<Vec<OutboxMessage>> {
        absent()
    }
    pub async fn outbox_show(&self, _id: String) -> Answer<OutboxMessage> {
        absent()
    }
    pub async fn inbox_list(&self, _group: Option<String>) -> Answer<Vec<InboxItem>> {
        absent()
    }
    pub async fn inbox_show(&self, _id: String) -> Answer<InboxDetail> {
        absent()
    }
    pub async fn inbox_content(&self, _id: String) -> Answer<Pin<Box<dyn AsyncRead + Send>>> {
        absent()
    }
    pub async fn receipt(&self, _id: String, _tier: Option<u8>) -> Answer<String> {
        absent()
    }
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.clone()
    }
    pub async fn stopped(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
