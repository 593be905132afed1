//! One function per route: read the request, call the node, write the answer.
//!
//! **Invariant:** no decision is made here; what is allowed is decided behind [`crate::service::Node`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Deserialize;
use tokio_util::io::{ReaderStream, StreamReader};
use utoipa::IntoParams;

use super::types::*;
use super::{ApiError, ApiState};

type Answer<T> = Result<Json<T>, ApiError>;
type JsonBody<T> = Result<Json<T>, JsonRejection>;

/// How long the rest of an upload is read and thrown away after the answer was known.
const UPLOAD_DRAIN: Duration = Duration::from_secs(10);
/// Read buffer of a download: large enough that system calls do not show in a profile.
const DOWNLOAD_BUFFER_BYTES: usize = 256 << 10;

/// Answers while the process lives.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Answers `ok` while the node takes messages, else 503 and why not.
pub async fn readyz(State(api): State<ApiState>) -> Response {
    crate::metrics::listen::readiness(api.node.ready().await)
}

/// What an unknown path gets.
pub async fn no_such_route() -> ApiError {
    ApiError(ServiceError::new(ErrorCode::NotFound, "no such route", "see /v1/openapi.json"))
}

/// What a wrong method gets.
pub async fn no_such_method() -> Response {
    let error = ServiceError::new(ErrorCode::Usage, "this route does not take that method", "see /v1/openapi.json");
    super::problem_response(&Problem { status: StatusCode::METHOD_NOT_ALLOWED.as_u16(), ..Problem::from(error) })
}

/// State and counts of this node.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status), (status = "default", body = Problem)))]
pub async fn status(State(api): State<ApiState>) -> Answer<Status> {
    let mut status = api.node.status().await?;
    status.api = api.socket.clone();
    status.api_tcp = api.tcp.clone();
    Ok(Json(status))
}

/// This entity's card.
#[utoipa::path(get, path = "/v1/card", responses((status = 200, body = ArmouredFile), (status = "default", body = Problem)))]
pub async fn card(State(api): State<ApiState>) -> Answer<ArmouredFile> {
    Ok(Json(ArmouredFile { file: api.node.card().await? }))
}

/// The counterparts and how they can be reached.
#[utoipa::path(get, path = "/v1/peers", responses((status = 200, body = Vec<Peer>), (status = "default", body = Problem)))]
pub async fn peers(State(api): State<ApiState>) -> Answer<Vec<Peer>> {
    Ok(Json(api.node.peers().await?))
}

/// All agreements.
#[utoipa::path(get, path = "/v1/agreements", responses((status = 200, body = Vec<AgreementSummary>), (status = "default", body = Problem)))]
pub async fn agreements(State(api): State<ApiState>) -> Answer<Vec<AgreementSummary>> {
    Ok(Json(api.node.agreements().await?))
}

/// Propose an agreement to each of the given cards.
#[utoipa::path(post, path = "/v1/agreements/proposals", request_body = ProposeRequest,
    responses((status = 200, body = Vec<Proposal>), (status = "default", body = Problem)))]
pub async fn propose(State(api): State<ApiState>, body: JsonBody<ProposeRequest>) -> Answer<Vec<Proposal>> {
    let Json(request) = body?;
    Ok(Json(api.node.propose(request).await?))
}

/// Countersign a proposal.
#[utoipa::path(post, path = "/v1/agreements/acceptances", request_body = AcceptRequest,
    responses((status = 200, body = Accepted), (status = "default", body = Problem)))]
pub async fn accept(State(api): State<ApiState>, body: JsonBody<AcceptRequest>) -> Answer<Accepted> {
    let Json(request) = body?;
    Ok(Json(api.node.accept(request).await?))
}

/// Take in an agreement that both sides have signed.
#[utoipa::path(post, path = "/v1/agreements/imports", request_body = ImportRequest,
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn import(State(api): State<ApiState>, body: JsonBody<ImportRequest>) -> Answer<AgreementSummary> {
    let Json(request) = body?;
    Ok(Json(api.node.import(request).await?))
}

/// One agreement with all its terms.
#[utoipa::path(get, path = "/v1/agreements/{id}", params(("id" = String, Path)),
    responses((status = 200, body = AgreementDetail), (status = "default", body = Problem)))]
pub async fn agreement(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<AgreementDetail> {
    Ok(Json(api.node.agreement(id).await?))
}

/// The armoured record of one agreement.
#[utoipa::path(get, path = "/v1/agreements/{id}/file", params(("id" = String, Path)),
    responses((status = 200, body = ArmouredFile), (status = "default", body = Problem)))]
pub async fn export(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<ArmouredFile> {
    Ok(Json(ArmouredFile { file: api.node.export(id).await? }))
}

/// End an agreement, at once and for good.
#[utoipa::path(post, path = "/v1/agreements/{id}/end", params(("id" = String, Path)), request_body = SignedRequest,
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn end(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<SignedRequest>,
) -> Answer<AgreementSummary> {
    let Json(request) = body?;
    Ok(Json(api.node.end(id, request).await?))
}

/// Offer the counterpart another version of the terms.
#[utoipa::path(post, path = "/v1/agreements/{id}/amendment", params(("id" = String, Path)), request_body = AmendRequest,
    responses((status = 200, body = Accepted), (status = "default", body = Problem)))]
pub async fn amend(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<AmendRequest>,
) -> Answer<Accepted> {
    let Json(request) = body?;
    Ok(Json(api.node.amend(id, request).await?))
}

/// Offer the counterpart the same terms for longer.
#[utoipa::path(post, path = "/v1/agreements/{id}/renewal", params(("id" = String, Path)), request_body = RenewRequest,
    responses((status = 200, body = Accepted), (status = "default", body = Problem)))]
pub async fn renew(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<RenewRequest>,
) -> Answer<Accepted> {
    let Json(request) = body?;
    Ok(Json(api.node.renew(id, request).await?))
}

/// Countersign the amendment that the counterpart offers.
#[utoipa::path(post, path = "/v1/agreements/{id}/acceptance", params(("id" = String, Path)),
    request_body = AcceptAmendmentRequest,
    responses((status = 200, body = Accepted), (status = "default", body = Problem)))]
pub async fn accept_amendment(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<AcceptAmendmentRequest>,
) -> Answer<Accepted> {
    let Json(request) = body?;
    Ok(Json(api.node.accept_amendment(id, request).await?))
}

/// Take back an own proposal, or an own offer of an amendment.
#[utoipa::path(post, path = "/v1/agreements/{id}/withdrawal", params(("id" = String, Path)),
    request_body = SignedRequest,
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn withdraw(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<SignedRequest>,
) -> Answer<AgreementSummary> {
    let Json(request) = body?;
    Ok(Json(api.node.withdraw(id, request).await?))
}

/// Suspend an agreement, at once, until this side resumes it.
#[utoipa::path(post, path = "/v1/agreements/{id}/suspension", params(("id" = String, Path)),
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn suspend(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<AgreementSummary> {
    Ok(Json(api.node.suspend(id).await?))
}

/// Take back this side's suspension.
#[utoipa::path(post, path = "/v1/agreements/{id}/resumption", params(("id" = String, Path)),
    request_body = SignedRequest,
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn resume(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<SignedRequest>,
) -> Answer<AgreementSummary> {
    let Json(request) = body?;
    Ok(Json(api.node.resume(id, request).await?))
}

/// Let an agreement that came out of a backup count again.
#[utoipa::path(post, path = "/v1/agreements/{id}/confirmation", params(("id" = String, Path)),
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn confirm(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<AgreementSummary> {
    Ok(Json(api.node.confirm(id).await?))
}

/// Compare the counterpart's fingerprint with what the operator was told.
#[utoipa::path(post, path = "/v1/agreements/{id}/fingerprint", params(("id" = String, Path)),
    request_body = VerifyRequest,
    responses((status = 200, body = AgreementSummary), (status = "default", body = Problem)))]
pub async fn verify(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<VerifyRequest>,
) -> Answer<AgreementSummary> {
    let Json(request) = body?;
    Ok(Json(api.node.verify(id, request).await?))
}

/// Whose head.
#[derive(Debug, Deserialize, IntoParams)]
pub struct HeadQuery {
    /// Id, number or name of a counterpart; this node's own without it.
    of: Option<String>,
}

/// The signed head of the audit log, or the newest one held of a counterpart's.
#[utoipa::path(get, path = "/v1/log/head", params(HeadQuery),
    responses((status = 200, body = ArmouredFile), (status = "default", body = Problem)))]
pub async fn log_head(
    State(api): State<ApiState>,
    query: Result<Query<HeadQuery>, QueryRejection>,
) -> Answer<ArmouredFile> {
    let Query(HeadQuery { of }) = query?;
    Ok(Json(api.node.log_head(of).await?))
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
pub struct EntriesQuery {
    /// The first one; without it the newest are listed.
    from: Option<u64>,
    /// How many, at most 1,000; 100 without it.
    limit: Option<usize>,
}

/// Entries of the audit log.
#[utoipa::path(get, path = "/v1/log/entries", params(EntriesQuery),
    responses((status = 200, body = LogPage), (status = "default", body = Problem)))]
pub async fn log_entries(
    State(api): State<ApiState>,
    query: Result<Query<EntriesQuery>, QueryRejection>,
) -> Answer<LogPage> {
    let Query(EntriesQuery { from, limit }) = query?;
    Ok(Json(api.node.log_entries(from, limit).await?))
}

/// Entries of the audit log as lines of FHIR, syslog or JSON, streamed; noted in the log.
#[utoipa::path(get, path = "/v1/log/export", params(LogExport),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), (status = "default", body = Problem)))]
pub async fn log_export(
    State(api): State<ApiState>,
    query: Result<Query<LogExport>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = query?;
    let (format, lines) = api.node.log_export(asked).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], Body::from_stream(lines)).into_response())
}

/// Read the whole audit log again, and compare it with what others hold of it.
#[utoipa::path(post, path = "/v1/log/verification", request_body = LogVerifyRequest,
    responses((status = 200, body = LogVerified), (status = "default", body = Problem)))]
pub async fn log_verify(State(api): State<ApiState>, body: JsonBody<LogVerifyRequest>) -> Answer<LogVerified> {
    let Json(request) = body?;
    Ok(Json(api.node.log_verify(request.held).await?))
}

/// Replace the node's transport, statement and contact key.
#[utoipa::path(post, path = "/v1/rotate", request_body = SignedRequest,
    responses((status = 200, body = Rotated), (status = "default", body = Problem)))]
pub async fn rotate(State(api): State<ApiState>, body: JsonBody<SignedRequest>) -> Answer<Rotated> {
    let Json(request) = body?;
    Ok(Json(api.node.rotate(request).await?))
}

/// How far the proposals of one bundle are.
#[utoipa::path(get, path = "/v1/bundles/{name}", params(("name" = String, Path)),
    responses((status = 200, body = Bundle), (status = "default", body = Problem)))]
pub async fn bundle(State(api): State<ApiState>, Path(name): Path<String>) -> Answer<Bundle> {
    Ok(Json(api.node.bundle(name).await?))
}

/// Which directory is asked for, and what is looked for in it.
#[derive(Debug, Deserialize, IntoParams)]
pub struct DirectoryQuery {
    /// The steward; without it all stewards that list this entity.
    pub with: Option<String>,
    /// Only entities in whose name, number, town or offers this stands. It is not told to the steward.
    pub search: Option<String>,
}

/// Who is listed at a steward.
#[utoipa::path(get, path = "/v1/directory", params(DirectoryQuery),
    responses((status = 200, body = DirectoryAnswer), (status = "default", body = Problem)))]
pub async fn directory(
    State(api): State<ApiState>,
    query: Result<Query<DirectoryQuery>, QueryRejection>,
) -> Answer<DirectoryAnswer> {
    let Query(query) = query?;
    Ok(Json(api.node.directory_list(query.with, query.search).await?))
}

/// Have this entity listed at a steward, or no longer.
#[utoipa::path(post, path = "/v1/directory/listings", request_body = PublishRequest,
    responses((status = 200, body = OwnListing), (status = "default", body = Problem)))]
pub async fn directory_publish(State(api): State<ApiState>, body: JsonBody<PublishRequest>) -> Answer<OwnListing> {
    let Json(request) = body?;
    Ok(Json(api.node.directory_publish(request).await?))
}

/// What came through introducers, and what this entity has asked for.
#[utoipa::path(get, path = "/v1/introductions",
    responses((status = 200, body = Vec<Introduction>), (status = "default", body = Problem)))]
pub async fn introductions(State(api): State<ApiState>) -> Answer<Vec<Introduction>> {
    Ok(Json(api.node.introductions().await?))
}

/// Get an entity's card through an introducer.
#[utoipa::path(post, path = "/v1/introductions/cards", request_body = CardRequest,
    responses((status = 200, body = CardAnswer), (status = "default", body = Problem)))]
pub async fn introduce_card(State(api): State<ApiState>, body: JsonBody<CardRequest>) -> Answer<CardAnswer> {
    let Json(request) = body?;
    Ok(Json(api.node.introduce_card(request).await?))
}

/// Propose an agreement to the entity of each card through an introducer.
#[utoipa::path(post, path = "/v1/introductions/proposals", request_body = IntroduceRequest,
    responses((status = 200, body = Vec<IntroducedProposal>), (status = "default", body = Problem)))]
pub async fn introduce(
    State(api): State<ApiState>,
    body: JsonBody<IntroduceRequest>,
) -> Answer<Vec<IntroducedProposal>> {
    let Json(request) = body?;
    Ok(Json(api.node.introduce(request).await?))
}

/// Countersign a proposal that came through an introducer.
#[utoipa::path(post, path = "/v1/introductions/{id}/accept", params(("id" = String, Path)), request_body = AcceptReceived,
    responses((status = 200, body = Accepted), (status = "default", body = Problem)))]
pub async fn accept_received(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: JsonBody<AcceptReceived>,
) -> Answer<Accepted> {
    let Json(request) = body?;
    Ok(Json(api.node.accept_received(id, request).await?))
}

/// Decline a proposal, or a request for the card, that came through an introducer.
#[utoipa::path(post, path = "/v1/introductions/{id}/decline", params(("id" = String, Path)),
    responses((status = 200, body = Vec<Introduction>), (status = "default", body = Problem)))]
pub async fn decline_received(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<Vec<Introduction>> {
    Ok(Json(api.node.decline_received(id).await?))
}

/// Give this entity's card to one that asked for it through an introducer.
#[utoipa::path(post, path = "/v1/introductions/{id}/card", params(("id" = String, Path)),
    responses((status = 200, body = Vec<Introduction>), (status = "default", body = Problem)))]
pub async fn give_card(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<Vec<Introduction>> {
    Ok(Json(api.node.give_card(id).await?))
}

/// The groups of this entity.
#[utoipa::path(get, path = "/v1/groups", responses((status = 200, body = Vec<Group>), (status = "default", body = Problem)))]
pub async fn groups(State(api): State<ApiState>) -> Answer<Vec<Group>> {
    Ok(Json(api.node.groups().await?))
}

/// Add a group, shown to nobody.
#[utoipa::path(post, path = "/v1/groups", request_body = GroupRequest,
    responses((status = 200, body = Group), (status = "default", body = Problem)))]
pub async fn group_add(State(api): State<ApiState>, body: JsonBody<GroupRequest>) -> Answer<Group> {
    let Json(request) = body?;
    Ok(Json(api.node.group_add(request.name).await?))
}

/// Show a group to a counterpart or to all.
#[utoipa::path(post, path = "/v1/groups/{name}/show", params(("name" = String, Path)), request_body = GroupAudience,
    responses((status = 200, body = Group), (status = "default", body = Problem)))]
pub async fn group_show(
    State(api): State<ApiState>,
    Path(name): Path<String>,
    body: JsonBody<GroupAudience>,
) -> Answer<Group> {
    let Json(request) = body?;
    Ok(Json(api.node.group_show(name, request.to).await?))
}

/// Hide a group from a counterpart or from all.
#[utoipa::path(post, path = "/v1/groups/{name}/hide", params(("name" = String, Path)), request_body = GroupAudience,
    responses((status = 200, body = Group), (status = "default", body = Problem)))]
pub async fn group_hide(
    State(api): State<ApiState>,
    Path(name): Path<String>,
    body: JsonBody<GroupAudience>,
) -> Answer<Group> {
    let Json(request) = body?;
    Ok(Json(api.node.group_hide(name, request.to).await?))
}

/// Where counterparts are told to dial this node.
#[utoipa::path(get, path = "/v1/addresses", responses((status = 200, body = Addresses), (status = "default", body = Problem)))]
pub async fn addresses(State(api): State<ApiState>) -> Answer<Addresses> {
    Ok(Json(api.node.addresses().await?))
}

/// Name other addresses, and tell every counterpart.
#[utoipa::path(post, path = "/v1/addresses", request_body = AddressesRequest,
    responses((status = 200, body = Addresses), (status = "default", body = Problem)))]
pub async fn set_addresses(State(api): State<ApiState>, body: JsonBody<AddressesRequest>) -> Answer<Addresses> {
    let Json(request) = body?;
    Ok(Json(api.node.set_addresses(request).await?))
}

/// Begin a message: recipients are found and checked before any content is read.
#[utoipa::path(post, path = "/v1/drafts", request_body = NewMessage,
    responses((status = 200, body = Draft), (status = "default", body = Problem)))]
pub async fn draft(State(api): State<ApiState>, body: JsonBody<NewMessage>) -> Answer<Draft> {
    let Json(message) = body?;
    Ok(Json(api.node.draft(message).await?))
}

/// How much of a message has arrived while its content is still being given.
#[utoipa::path(get, path = "/v1/drafts/{id}", params(("id" = String, Path)),
    responses((status = 200, body = DraftProgress), (status = "default", body = Problem)))]
pub async fn draft_progress(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<DraftProgress> {
    Ok(Json(api.node.draft_progress(&id)?))
}

/// Give a message its content as a tar stream; answers once it is sealed and durable.
#[utoipa::path(put, path = "/v1/drafts/{id}/content", params(("id" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, body = Sent), (status = "default", body = Problem)))]
pub async fn submit(State(api): State<ApiState>, Path(id): Path<String>, body: Body) -> Answer<Sent> {
    let content = StreamReader::new(Upload { body: Some(body.into_data_stream()) });
    Ok(Json(api.node.submit(id, Box::pin(content)).await?))
}

/// Outgoing messages, newest first.
#[utoipa::path(get, path = "/v1/outbox", params(ListQuery),
    responses((status = 200, body = Vec<OutboxMessage>), (status = "default", body = Problem)))]
pub async fn outbox_list(
    State(api): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<OutboxMessage>> {
    let Query(query) = query?;
    Ok(Json(api.node.outbox_list(query).await?))
}

/// One outgoing message, by message or envelope id.
#[utoipa::path(get, path = "/v1/outbox/{id}", params(("id" = String, Path)),
    responses((status = 200, body = OutboxMessage), (status = "default", body = Problem)))]
pub async fn outbox_show(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<OutboxMessage> {
    Ok(Json(api.node.outbox_show(id).await?))
}

/// Which receipt is asked for.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ReceiptQuery {
    /// 1 delivered, 2 released, 3 taken; the highest that is held without it.
    pub tier: Option<u8>,
}

/// The armoured receipt of an envelope.
#[utoipa::path(get, path = "/v1/outbox/{id}/receipt", params(("id" = String, Path), ReceiptQuery),
    responses((status = 200, body = ArmouredFile), (status = "default", body = Problem)))]
pub async fn receipt(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    query: Result<Query<ReceiptQuery>, QueryRejection>,
) -> Answer<ArmouredFile> {
    let Query(query) = query?;
    Ok(Json(ArmouredFile { file: api.node.receipt(id, query.tier).await? }))
}

/// Take a message, or one envelope of it, back.
#[utoipa::path(post, path = "/v1/outbox/{id}/recall", params(("id" = String, Path)),
    responses((status = 200, body = OutboxMessage), (status = "default", body = Problem)))]
pub async fn outbox_recall(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<OutboxMessage> {
    Ok(Json(api.node.outbox_recall(id).await?))
}

/// Send a message back as not meant for this entity: purged here, with a proof for its sender.
#[utoipa::path(post, path = "/v1/inbox/{id}/return", params(("id" = String, Path)),
    responses((status = 200, body = PurgedItem), (status = "default", body = Problem)))]
pub async fn inbox_return(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<PurgedItem> {
    Ok(Json(api.node.inbox_return(id).await?))
}

/// Delete a message that may go, or a report, for good.
#[utoipa::path(post, path = "/v1/inbox/{id}/delete", params(("id" = String, Path)),
    responses((status = 200, body = PurgedItem), (status = "default", body = Problem)))]
pub async fn inbox_delete(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<PurgedItem> {
    Ok(Json(api.node.inbox_delete(id).await?))
}

/// Put a message on hold: nothing deletes it.
#[utoipa::path(post, path = "/v1/inbox/{id}/hold", params(("id" = String, Path)),
    responses((status = 200, body = HeldItem), (status = "default", body = Problem)))]
pub async fn inbox_hold(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<HeldItem> {
    Ok(Json(api.node.inbox_hold(id).await?))
}

/// Take a message off hold.
#[utoipa::path(post, path = "/v1/inbox/{id}/unhold", params(("id" = String, Path)),
    responses((status = 200, body = HeldItem), (status = "default", body = Problem)))]
pub async fn inbox_unhold(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<HeldItem> {
    Ok(Json(api.node.inbox_unhold(id).await?))
}

/// Take responsibility for a message.
#[utoipa::path(post, path = "/v1/inbox/{id}/take", params(("id" = String, Path)),
    responses((status = 200, body = InboxItem), (status = "default", body = Problem)))]
pub async fn inbox_take(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<InboxItem> {
    Ok(Json(api.node.inbox_take(id).await?))
}

/// Received messages and reports, newest first.
#[utoipa::path(get, path = "/v1/inbox", params(ListQuery),
    responses((status = 200, body = Vec<InboxItem>), (status = "default", body = Problem)))]
pub async fn inbox_list(
    State(api): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<InboxItem>> {
    let Query(query) = query?;
    Ok(Json(api.node.inbox_list(query).await?))
}

/// One received message with text and tree.
#[utoipa::path(get, path = "/v1/inbox/{id}", params(("id" = String, Path)),
    responses((status = 200, body = InboxDetail), (status = "default", body = Problem)))]
pub async fn inbox_show(State(api): State<ApiState>, Path(id): Path<String>) -> Answer<InboxDetail> {
    Ok(Json(api.node.inbox_show(id).await?))
}

/// The files of a received message as a tar stream, names as sent.
#[utoipa::path(get, path = "/v1/inbox/{id}/content", params(("id" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/x-tar"), (status = "default", body = Problem)))]
pub async fn inbox_content(State(api): State<ApiState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let content = api.node.inbox_content(id).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(content, DOWNLOAD_BUFFER_BYTES));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

/// What is known about backups.
#[utoipa::path(get, path = "/v1/backup", responses((status = 200, body = BackupState), (status = "default", body = Problem)))]
pub async fn backup_state(State(api): State<ApiState>) -> Answer<BackupState> {
    Ok(Json(api.node.backup_state().await?))
}

/// A backup of this moment, streamed; say `kept` once it is durable.
#[utoipa::path(get, path = "/v1/backup/content",
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = "default", body = Problem)))]
pub async fn backup(State(api): State<ApiState>) -> Result<Response, ApiError> {
    let body = Body::from_stream(api.node.backup().await?);
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// The backup with this id was written whole; tells what it holds, or why it broke off.
#[utoipa::path(post, path = "/v1/backup/kept", request_body = BackupKept,
    responses((status = 200, body = BackupSummary), (status = "default", body = Problem)))]
pub async fn backup_kept(State(api): State<ApiState>, body: JsonBody<BackupKept>) -> Answer<BackupSummary> {
    let Json(request) = body?;
    Ok(Json(api.node.backup_kept(request).await?))
}

/// Counterparts that were restored from a backup, and what they lost.
#[utoipa::path(get, path = "/v1/gaps", responses((status = 200, body = Vec<Gap>), (status = "default", body = Problem)))]
pub async fn gaps(State(api): State<ApiState>) -> Answer<Vec<Gap>> {
    Ok(Json(api.node.gaps().await?))
}

/// The gap of a counterpart was dealt with.
#[utoipa::path(post, path = "/v1/gaps/{counterpart}/seen", params(("counterpart" = String, Path)),
    responses((status = 200, body = Gap), (status = "default", body = Problem)))]
pub async fn gap_seen(State(api): State<ApiState>, Path(counterpart): Path<String>) -> Answer<Gap> {
    Ok(Json(api.node.gap_seen(counterpart).await?))
}

/// How the last comparisons of what was sent with what is held came out.
#[utoipa::path(get, path = "/v1/reconciliations",
    responses((status = 200, body = Vec<Reconciliation>), (status = "default", body = Problem)))]
pub async fn reconciliations(State(api): State<ApiState>) -> Answer<Vec<Reconciliation>> {
    Ok(Json(api.node.reconciliations().await?))
}

/// Compare now, and wait for what that shows.
#[utoipa::path(post, path = "/v1/reconciliations", request_body = ReconcileRequest,
    responses((status = 200, body = Vec<Reconciliation>), (status = "default", body = Problem)))]
pub async fn reconcile(State(api): State<ApiState>, body: JsonBody<ReconcileRequest>) -> Answer<Vec<Reconciliation>> {
    let Json(request) = body?;
    Ok(Json(api.node.reconcile(request).await?))
}

/// The gaps with a counterpart were dealt with.
#[utoipa::path(post, path = "/v1/reconciliations/{counterpart}/seen", params(("counterpart" = String, Path)),
    responses((status = 200, body = Vec<Reconciliation>), (status = "default", body = Problem)))]
pub async fn reconciliation_seen(
    State(api): State<ApiState>,
    Path(counterpart): Path<String>,
) -> Answer<Vec<Reconciliation>> {
    Ok(Json(api.node.reconciliation_seen(counterpart).await?))
}

/// What both sides have signed of the last comparisons with a counterpart, as an armoured file that two cards verify.
#[utoipa::path(get, path = "/v1/reconciliations/{counterpart}/file", params(("counterpart" = String, Path)),
    responses((status = 200, body = ArmouredFile), (status = "default", body = Problem)))]
pub async fn reconciliation_file(State(api): State<ApiState>, Path(counterpart): Path<String>) -> Answer<ArmouredFile> {
    Ok(Json(api.node.reconciliation_file(counterpart).await?))
}

/// The bytes of an upload. When the node has answered before the end, the rest is read for a while: a client that still writes
/// would otherwise meet a closed connection and never read the answer.
struct Upload {
    body: Option<BodyDataStream>,
}

impl Stream for Upload {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let next = std::task::ready!(body.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(next.map(|frame| frame.map_err(std::io::Error::other)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let rest = async { while let Some(Ok(_)) = body.next().await {} };
            let _ = tokio::time::timeout(UPLOAD_DRAIN, rest).await;
        });
    }
}
