//! Whether the chain of the audit log holds, from its first record to its newest.

use meshlog_proto::v1;
use meshlog_storage::Offset;

use super::chain::{Break, Link, Walk};
use super::reading::{Reading, Stored};
use crate::access::{Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::time::storage_time;

impl Broker {
    /// Reads the whole audit log and follows its chain. What does not hold is an answer, not an
    /// error.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a `noted_head` that is none; `DATA_LOSS` for bytes that cannot be read.
    pub async fn verify_audit(
        &self,
        caller: &Caller,
        request: v1::VerifyAuditRequest,
    ) -> Result<v1::VerifyAuditResponse> {
        self.refuse_if_closing()?;
        self.catalogue().allow(caller, Rpc::VerifyAudit, Resource::Broker)?;
        let noted = match request.noted_head.as_str() {
            "" => None,
            text => Some(Link::from_text(text).ok_or_else(|| {
                Error::new(
                    Reason::InvalidArgument,
                    "noted_head: write it as an earlier verification did, SEQUENCE:HASH",
                )
                .with("field", "noted_head")
            })?),
        };
        // The end is taken after the chain: what is written meanwhile lies behind it.
        let chain = self.catalogue().audit_chain();
        let mut reading = Reading::begin(self, Offset(chain.first_offset))?;
        let end = chain.first_offset + chain.sequence;
        let mut walk = Walk::through(noted);
        let (mut response, begins) = (v1::VerifyAuditResponse::default(), reading.bounds().start.0);
        response.records_before = chain.first_offset.saturating_sub(begins);
        let held = 'held: loop {
            let (slice, _) = reading.slice().await?;
            if slice.is_empty() {
                break walk.finish(end, Some(chain.link()));
            }
            for stored in slice.iter().take_while(|stored| stored.offset < end) {
                let step = walk.step(stored.offset, &stored.value, stored.hash.as_deref());
                let checked = step.and_then(|link| {
                    fits(stored, link, chain.first_offset)?;
                    Ok(link)
                });
                match checked {
                    Ok(_) => response.records += 1,
                    Err(wrong) => break 'held Err(wrong),
                }
            }
            if slice.last().is_some_and(|last| last.offset + 1 >= end) {
                break walk.finish(end, Some(chain.link()));
            }
        };
        match held {
            Ok(walked) => {
                response.anchor = walked.anchor.to_string();
                response.head = walked.head.to_string();
            }
            Err(Break { offset, what }) => {
                response.head = chain.link().to_string();
                response.broken = Some(v1::AuditBreak { offset, what });
            }
        }
        Ok(response)
    }
}

/// What stands beside the value must say the same as the value.
fn fits(stored: &Stored, link: Link, first_offset: u64) -> Result<(), Break> {
    let wrong = |what: &str| Break { offset: stored.offset, what: what.to_owned() };
    if first_offset + link.sequence != stored.offset + 1 {
        return Err(wrong("its number in the chain does not belong to its offset"));
    }
    let value: serde_json::Value = serde_json::from_slice(&stored.value).unwrap_or_default();
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let key = format!("{}/{}", text("kind"), text("name"));
    if stored.key != key.as_bytes() {
        return Err(wrong("its key is not what its content is about"));
    }
    let time = text("time").parse::<prost_types::Timestamp>().ok();
    if time.is_none_or(|time| storage_time(&time).0 != stored.event_time) {
        return Err(wrong("its event time is not the time in its content"));
    }
    Ok(())
}
