//! The broker from outside: every test talks gRPC to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "e2e/access.rs"]
mod access;
#[path = "e2e/append.rs"]
mod append;
#[path = "e2e/append_stream.rs"]
mod append_stream;
#[path = "e2e/audit.rs"]
mod audit;
#[path = "e2e/backup.rs"]
mod backup;
#[path = "e2e/catalogue.rs"]
mod catalogue;
#[path = "e2e/catalogue_crash.rs"]
mod catalogue_crash;
#[path = "e2e/connections.rs"]
mod connections;
#[path = "e2e/copies.rs"]
mod copies;
#[path = "e2e/cursors.rs"]
mod cursors;
#[path = "e2e/disk.rs"]
mod disk;
#[path = "e2e/drain.rs"]
mod drain;
#[path = "e2e/enforcement.rs"]
mod enforcement;
#[path = "e2e/errors.rs"]
mod errors;
#[path = "e2e/health.rs"]
mod health;
#[path = "e2e/http.rs"]
mod http;
#[path = "e2e/idempotence.rs"]
mod idempotence;
#[path = "e2e/language_fixtures.rs"]
mod language_fixtures;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/lineage.rs"]
mod lineage;
#[path = "e2e/local.rs"]
mod local;
#[path = "e2e/offsets.rs"]
mod offsets;
#[path = "e2e/raw.rs"]
mod raw;
#[path = "e2e/read.rs"]
mod read;
#[path = "e2e/reflection.rs"]
mod reflection;
#[path = "e2e/restart.rs"]
mod restart;
#[path = "e2e/resume.rs"]
mod resume;
#[path = "e2e/retention.rs"]
mod retention;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/sample.rs"]
mod sample;
#[path = "e2e/schema.rs"]
mod schema;
#[path = "e2e/search.rs"]
mod search;
#[path = "e2e/subscribe.rs"]
mod subscribe;
#[path = "e2e/tls.rs"]
mod tls;
#[path = "e2e/trace.rs"]
mod trace;
#[path = "e2e/usage.rs"]
mod usage;
