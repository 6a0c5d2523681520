//! A disk that is full to the last byte: appends are refused and nothing else, deleting makes room,
//! other processes take it and give it back, and a restart in between changes nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use meshlog_proto::v1;
use meshlog_proto::v1::admin_service_client::AdminServiceClient;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_tests::{append, product};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::ledger::Ledger;
use crate::load::{append_once, check, create, runtime};
use crate::mount::{Image, missing};
use crate::server::{Start, pause, scratch, verify};
use crate::{Outcome, Plan};

/// Two checkpoints of ten seconds each, and a slow machine.
const ROOM_WITHIN: Duration = Duration::from_secs(180);

pub(crate) fn to_the_last_byte(_plan: &Plan) -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let runtime = runtime();
    let _inside = runtime.enter();
    let home = scratch("space");
    let _image = match Image::make(&home.join("image"), &home.join("mount"), 64) {
        Ok(image) => image,
        Err(why) => return Outcome::Skipped(why),
    };
    let data = home.join("mount/data");
    let junk = home.join("mount/junk");
    let start = Start { data: &data, home: &home, under: Vec::new() };
    let mut ledger = Ledger::new(1);
    let server = start.listening().unwrap();
    create(&runtime, &server.channel(), &ledger);

    // Somebody else fills the disk; what the broker has kept back stays its own.
    let channel = server.channel();
    large(&runtime, &channel, "ops.large");
    let filled = fill(&runtime, &channel, "ops.large");
    take_the_rest(&junk);
    refused(&runtime, &channel, &mut ledger);
    check(&runtime, &channel, &ledger);
    describe(&runtime, &channel, "while nothing is left");

    // Deleting helps, though every byte that comes back is the broker's own.
    delete(&runtime, &channel, "ops.large");
    let emptied = accepted(&runtime, &channel, &mut ledger);
    check(&runtime, &channel, &ledger);

    // Again, and this time the others take much, and give it back.
    take(&junk, 12);
    large(&runtime, &channel, "ops.again");
    fill(&runtime, &channel, "ops.again");
    take_the_rest(&junk);
    refused(&runtime, &channel, &mut ledger);
    std::fs::remove_file(&junk).unwrap();
    let freed = accepted(&runtime, &channel, &mut ledger);

    // Killed and started again without a byte to spare: it serves what it has.
    fill(&runtime, &channel, "ops.again");
    take_the_rest(&junk);
    refused(&runtime, &channel, &mut ledger);
    server.kill();
    verify(&data).unwrap_or_else(|words| panic!("a full disk is not damage:\n{words}"));
    let server = start.listening().unwrap_or_else(|words| panic!("on a full disk: {words}"));
    let channel = server.channel();
    check(&runtime, &channel, &ledger);
    refused(&runtime, &channel, &mut ledger);
    delete(&runtime, &channel, "ops.again");
    accepted(&runtime, &channel, &mut ledger);
    let counted = check(&runtime, &channel, &ledger);
    server.terminate();
    verify(&data).unwrap_or_else(|words| panic!("a full disk is not damage:\n{words}"));
    Outcome::Passed(format!(
        "{filled} MB, then DISK_FULL; room {emptied:.1?} after a deletion, {freed:.1?} after others \
         gave theirs back, served after a kill; {} acknowledged appends all there",
        counted.acknowledged
    ))
}

fn large(runtime: &Runtime, channel: &Channel, name: &str) {
    let mut catalog = CatalogServiceClient::new(channel.clone());
    runtime.block_on(catalog.create_product(product(name).request())).unwrap();
}

/// Appends megabytes until there is no space for more; answers how many there was space for.
fn fill(runtime: &Runtime, channel: &Channel, name: &str) -> usize {
    let mut client = RecordServiceClient::new(channel.clone());
    let megabyte = || append(name).value(vec![b'x'; 1_000_000]);
    for count in 0..200 {
        let Err(status) = runtime.block_on(client.append(megabyte())) else { continue };
        let trailer = |key: &str| status.metadata().get(key).unwrap().to_str().unwrap().to_owned();
        assert_eq!(trailer("meshlog-reason"), "DISK_FULL", "{status}");
        assert_eq!(trailer("meshlog-applied"), "no", "{status}");
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().contains("resume by themselves"), "{status}");
        return count;
    }
    panic!("200 MB went onto a disk of 64");
}

/// What other processes do: takes so many megabytes, as soon as they are there.
fn take(junk: &Path, megabytes: usize) {
    let begun = Instant::now();
    let mut file = File::options().create(true).append(true).open(junk).unwrap();
    let mut taken = 0;
    while taken < megabytes {
        match file.write_all(&vec![7; 1 << 20]).and_then(|()| file.sync_all()) {
            Ok(()) => taken += 1,
            Err(_) => pause(Duration::from_millis(100)),
        }
        assert!(begun.elapsed() < ROOM_WITHIN, "what was deleted is not given back");
    }
}

/// What other processes do: takes every byte that is free.
fn take_the_rest(junk: &Path) {
    let mut file = File::options().create(true).append(true).open(junk).unwrap();
    for length in [1 << 20, 1 << 12, 1] {
        let bytes = vec![7; length];
        while file.write_all(&bytes).is_ok() {}
    }
    // What was promised to the page cache is taken as well, or is not there.
    let _ = file.sync_all();
}

/// Every writer is refused, if not at once then when the files that are there are full.
fn refused(runtime: &Runtime, channel: &Channel, ledger: &mut Ledger) {
    let mut client = RecordServiceClient::new(channel.clone());
    for writer in &mut ledger.writers {
        let refusal = (0..20_000)
            .find_map(|_| runtime.block_on(append_once(&mut client, writer)).err())
            .expect("a full disk takes no more");
        assert_eq!((&refusal.reason[..], &refusal.applied[..]), ("DISK_FULL", "no"));
    }
    let mut admin = AdminServiceClient::new(channel.clone());
    let info = runtime.block_on(admin.get_server_info(v1::GetServerInfoRequest {})).unwrap();
    let said = info.into_inner().storage.unwrap().appends_refused;
    assert!(said.contains("disk is full"), "{said}");
}

/// Appends resume by themselves; answers after how long.
fn accepted(runtime: &Runtime, channel: &Channel, ledger: &mut Ledger) -> Duration {
    let mut client = RecordServiceClient::new(channel.clone());
    let begun = Instant::now();
    for writer in &mut ledger.writers {
        while let Err(refusal) = runtime.block_on(append_once(&mut client, writer)) {
            assert_eq!((&refusal.reason[..], &refusal.applied[..]), ("DISK_FULL", "no"));
            assert!(begun.elapsed() < ROOM_WITHIN, "appends do not resume");
            pause(Duration::from_millis(100));
        }
    }
    begun.elapsed()
}

/// A change of the catalogue is control work.
fn describe(runtime: &Runtime, channel: &Channel, words: &str) {
    let mut catalog = CatalogServiceClient::new(channel.clone());
    let request = v1::DeprecateProductRequest {
        name: "ops.large".to_owned(),
        reason: words.to_owned(),
        ..Default::default()
    };
    runtime.block_on(catalog.deprecate_product(request)).unwrap();
}

fn delete(runtime: &Runtime, channel: &Channel, name: &str) {
    let mut catalog = CatalogServiceClient::new(channel.clone());
    let request =
        v1::DeleteProductRequest { name: name.to_owned(), force: true, ..Default::default() };
    runtime.block_on(catalog.delete_product(request)).unwrap();
}
