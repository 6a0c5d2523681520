//! What the audit log says, filtered.

use meshlog_proto::v1;
use meshlog_storage::Offset;

use super::reading::{Reading, Stored, Told};
use crate::access::{Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::AUDIT_PRODUCT;
use crate::error::{Error, Reason, Result};
use crate::record::offset_at_time;
use crate::time::storage_time;

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: u32 = 1_000;
/// Bytes looked at for one page; one with few records says where to go on.
const PAGE_LOOK_BYTES: usize = 16 << 20;
/// Bytes of values in one page: an answer stays below what clients take by default.
const PAGE_BYTES: usize = 2 << 20;

impl Broker {
    /// A page of the audit log, oldest first. One with fewer records than asked for, also with
    /// none, is not the last as long as it has a token.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a token that is not from a page before.
    pub async fn list_audit(
        &self,
        caller: &Caller,
        request: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditResponse> {
        self.refuse_if_closing()?;
        self.catalogue().allow(caller, Rpc::ListAudit, Resource::Broker)?;
        let size = match request.page_size {
            0 => DEFAULT_SIZE,
            size => size.min(MAX_SIZE),
        } as usize;
        let from = match (request.page_token.as_str(), &request.since_time) {
            ("", None) => Offset(0),
            ("", Some(since)) => {
                let product = self.catalogue().resolve(AUDIT_PRODUCT, "")?;
                offset_at_time(self, &product, 0, storage_time(since)).await?
            }
            (token, _) => Offset(token.parse().map_err(|_| {
                Error::new(
                    Reason::InvalidArgument,
                    "page_token: it is not from the last response to the same request",
                )
                .with("field", "page_token")
            })?),
        };
        let mut reading = Reading::begin(self, from)?;
        let (mut records, mut looked_at, mut bytes) = (Vec::new(), 0, 0);
        loop {
            let (slice, read) = reading.slice().await?;
            if slice.is_empty() {
                return Ok(v1::ListAuditResponse { records, next_page_token: String::new() });
            }
            looked_at += read;
            for stored in slice {
                if records.len() == size || bytes > PAGE_BYTES {
                    let next_page_token = stored.offset.to_string();
                    return Ok(v1::ListAuditResponse { records, next_page_token });
                }
                let told: Told = serde_json::from_slice(&stored.value).unwrap_or_default();
                if is_asked_for(&request, &stored, &told) {
                    bytes += stored.value.len();
                    records.push(message(stored, told));
                } else if looked_at > PAGE_LOOK_BYTES {
                    let next_page_token = (stored.offset + 1).to_string();
                    return Ok(v1::ListAuditResponse { records, next_page_token });
                }
            }
        }
    }
}

fn is_asked_for(request: &v1::ListAuditRequest, stored: &Stored, told: &Told) -> bool {
    let is = |asked: &str, told: &str| asked.is_empty() || asked == told;
    let time = |time: &prost_types::Timestamp| storage_time(time).0;
    is(&request.principal, &told.principal)
        && is(&request.action, &told.action)
        && is(&request.kind, &told.kind)
        && is(&request.name, &told.name)
        && request.since_time.as_ref().is_none_or(|since| stored.event_time >= time(since))
        && request.until_time.as_ref().is_none_or(|until| stored.event_time < time(until))
}

fn message(stored: Stored, told: Told) -> v1::AuditRecord {
    v1::AuditRecord {
        offset: stored.offset,
        sequence: told.sequence,
        time: told.time.parse().ok(),
        principal: told.principal,
        application: told.application,
        action: told.action,
        kind: told.kind,
        name: told.name,
        json: String::from_utf8_lossy(&stored.value).into_owned(),
        hash: stored.hash.unwrap_or_default(),
    }
}
