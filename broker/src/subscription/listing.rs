//! Where cursors stand, and how that compares to the log now.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use meshlog_proto::v1;
use meshlog_storage::{Bounds, Offset};
use prost::Message as _;

use super::stored::StoredCursor;
use super::{check_name, shown};
use crate::access::{Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::{Page, ProductHandle};
use crate::error::{Error, Reason, Result};
use crate::record::bounds_of;

/// A page ends when it has this many bytes, so that a frame stays below the 4 MiB that clients accept
/// by default.
const MAX_PAGE_BYTES: usize = 2 << 20;

impl Broker {
    /// Where one cursor stands in one product; with the etag `0` if it never committed there.
    ///
    /// # Errors
    /// `NAME_INVALID`, `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`.
    pub fn get_offsets(
        &self,
        caller: &Caller,
        request: v1::GetOffsetsRequest,
    ) -> Result<v1::GetOffsetsResponse> {
        self.refuse_if_closing()?;
        check_name(&request.cursor)?;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::GetOffsets,
            &request.product,
            &request.product_id,
        )?;
        let cursor = self.catalogue().cursors().find(&request.cursor, &product.id);
        let cursor = self.cursor_message(&request.cursor, &product, cursor.as_deref())?;
        Ok(v1::GetOffsetsResponse { cursor: Some(cursor) })
    }

    /// Cursors by name, then by product, of those products that the caller may read. A page may be shorter than asked for.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`; `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_cursors(
        &self,
        caller: &Caller,
        request: v1::ListCursorsRequest,
    ) -> Result<v1::ListCursorsResponse> {
        self.refuse_if_closing()?;
        let product = match request.product.as_str() {
            "" => None,
            name => Some(self.catalogue().resolve_for(caller, Rpc::GetOffsets, name, "")?),
        };
        let product_id = product.as_ref().map_or("", |product| &product.id);
        let list = format!("cursors {product_id} {}", shown(&request.cursor));
        let mut page = Page::asked(&list, request.page_size, &request.page_token)?;
        let mut found = self.find_cursors(caller, &request.cursor, product, &page)?;
        let mut bytes = 0;
        let mut cursors = Vec::new();
        for (place, name, product, cursor) in found.drain(..) {
            let message = match self.cursor_message(&name, &product, Some(&cursor)) {
                Ok(message) => message,
                // Deleted while the list was made; the page gets shorter by it.
                Err(error) if error.reason() == Reason::ProductNotFound => {
                    page.size = (page.size - 1).max(1);
                    continue;
                }
                Err(error) => return Err(error),
            };
            bytes += message.encoded_len();
            if bytes > MAX_PAGE_BYTES {
                page.size = page.size.min(cursors.len().max(1));
            }
            cursors.push((place, message));
            if cursors.len() > page.size {
                break;
            }
        }
        let next_page_token = page.cut(&mut cursors, |(place, _)| place);
        let cursors = cursors.into_iter().map(|(_, message)| message).collect();
        Ok(v1::ListCursorsResponse { cursors, next_page_token })
    }

    /// One more than the page takes, each with its place in the order.
    fn find_cursors(
        &self,
        caller: &Caller,
        only: &str,
        product: Option<Arc<ProductHandle>>,
        page: &Page,
    ) -> Result<Vec<Found>> {
        let table = self.catalogue().cursors();
        // A space sorts before every character of a name, so places sort as (cursor, product) do.
        let (after_name, after) = match page.after.split_once(' ') {
            Some((name, _)) => (name, page.after.as_str()),
            None if page.after.is_empty() => ("", ""),
            None => return Err(foreign_token()),
        };
        if let Some(product) = product {
            let from = match after_name {
                "" => Bound::Unbounded,
                name => Bound::Excluded(name),
            };
            let cursors = match only {
                "" => table.in_product(&product.id, from, page.size + 1),
                name if after.is_empty() => {
                    let cursor = table.find(name, &product.id);
                    cursor.map(|cursor| (Arc::from(name), cursor)).into_iter().collect()
                }
                _ => Vec::new(),
            };
            let found = cursors.into_iter().map(|(name, cursor)| {
                (place(&name, &product.name), name, Arc::clone(&product), cursor)
            });
            return Ok(found.collect());
        }
        let mut found: Vec<Found> = Vec::new();
        let mut from = match (only, after_name) {
            ("", "") => Bound::Unbounded,
            ("", name) | (name, _) => Bound::Included(name.to_owned()),
        };
        while found.len() <= page.size {
            let Some((name, cursors)) = table.next_name(from.as_ref().map(String::as_str)) else {
                break;
            };
            if !only.is_empty() && *name != *only {
                break;
            }
            let mut of_name: Vec<Found> = cursors
                .into_iter()
                .filter_map(|(id, cursor)| {
                    let product = self.catalogue().find(&id)?;
                    let about = Resource::Product(&product);
                    if !self.catalogue().allows(caller, Rpc::GetOffsets, about) {
                        return None;
                    }
                    Some((place(&name, &product.name), Arc::clone(&name), product, cursor))
                })
                .filter(|(place, ..)| place.as_str() > after)
                .collect();
            of_name.sort_by(|a, b| a.0.cmp(&b.0));
            found.append(&mut of_name);
            from = Bound::Excluded(name.to_string());
        }
        found.truncate(page.size + 1);
        Ok(found)
    }

    /// Lag of the cursor that is farthest behind.
    pub(crate) fn farthest_cursor(&self) -> u64 {
        let cursors = self.catalogue().cursors().all();
        let lags = cursors.into_iter().filter_map(|(id, cursor)| {
            let product = self.catalogue().find(&id)?;
            // Deleted meanwhile: nobody lags there.
            Some(self.cursor_message("", &product, Some(&cursor)).ok()?.lag)
        });
        lags.max().unwrap_or_default()
    }

    /// As clients see it: lag and loss are those of now.
    pub(super) fn cursor_message(
        &self,
        name: &str,
        product: &ProductHandle,
        cursor: Option<&StoredCursor>,
    ) -> Result<v1::Cursor> {
        let committed: HashMap<u32, u64> = cursor
            .into_iter()
            .flat_map(|cursor| &cursor.positions)
            .map(|at| (at.partition, at.offset))
            .collect();
        let mut positions = Vec::with_capacity(committed.len());
        let mut total = 0_u64;
        for partition in 0..product.streams.len() as u32 {
            let bounds = bounds_of(self, product, partition)?;
            let position = committed.get(&partition).map(|offset| Offset(*offset));
            let (lag, lost) = standing(bounds, position.unwrap_or(bounds.start));
            total = total.saturating_add(lag);
            if let Some(Offset(offset)) = position {
                positions.push(v1::CursorPosition { partition, offset, lag, lost });
            }
        }
        Ok(v1::Cursor {
            name: name.to_owned(),
            product: product.name.to_string(),
            product_id: product.id.to_string(),
            positions,
            lag: total,
            etag: cursor.map_or_else(|| "0".to_owned(), StoredCursor::etag),
            update_time: cursor.and_then(|cursor| cursor.update_time),
            updated_by: cursor.map(|cursor| cursor.updated_by.clone()).unwrap_or_default(),
        })
    }
}

/// A cursor, after its place in the list.
type Found = (String, Arc<str>, Arc<ProductHandle>, Arc<StoredCursor>);

fn place(cursor: &str, product: &str) -> String {
    format!("{cursor} {product}")
}

/// Offsets from a position to the durable end that can still be read, and those that cannot.
fn standing(bounds: Bounds, position: Offset) -> (u64, u64) {
    let Bounds { start, durable_end } = bounds;
    let lag = durable_end.0.saturating_sub(position.max(start).0);
    (lag, start.0.saturating_sub(position.0))
}

fn foreign_token() -> Error {
    let what = "it is not from the last response to the same request";
    Error::new(Reason::InvalidArgument, format!("page_token: {what}"))
        .with("field", "page_token")
        .with_violation("page_token", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_retention_took_before_it_was_read_is_lost_and_no_longer_lag() {
        let bounds = Bounds { start: Offset(10), durable_end: Offset(25) };
        assert_eq!(standing(bounds, Offset(4)), (15, 6));
        assert_eq!(standing(bounds, Offset(10)), (15, 0));
        assert_eq!(standing(bounds, Offset(25)), (0, 0));
        let emptied = Bounds { start: Offset(25), durable_end: Offset(25) };
        assert_eq!(standing(emptied, Offset(0)), (0, 25));
    }
}
