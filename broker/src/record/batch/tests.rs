use meshlog_proto::v1;
use meshlog_storage::BatchCodec as _;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn bytes_of(records: Vec<v1::Record>) -> Vec<u8> {
    v1::RecordBatch { records }.encode_to_vec()
}

fn value(bytes: &[u8]) -> v1::Record {
    v1::Record { value: Some(Bytes::copy_from_slice(bytes)), ..v1::Record::default() }
}

fn walk(batch: &[u8]) -> Result<Vec<RecordView<'_>>, BatchError> {
    records(batch).collect()
}

fn fault(batch: &[u8]) -> Fault {
    walk(batch).expect_err("the batch must be refused").fault
}

#[test]
fn a_batch_without_records_is_refused() {
    assert_eq!(fault(&[]), Fault::Empty);
}

#[test]
fn an_empty_record_is_a_record() {
    let batch = bytes_of(vec![v1::Record::default(), value(b"x")]);
    let views = walk(&batch).unwrap();
    assert_eq!((views[0].key, views[0].value), (None, None));
    assert_eq!(views[1].value, Some(&b"x"[..]));
    assert_eq!(views[1].entry, 2..batch.len());
}

#[test]
fn anything_beside_records_is_refused_at_batch_level() {
    let mut batch = bytes_of(vec![value(b"x")]);
    batch.extend_from_slice(&[0x10, 0x01]);
    assert_eq!(fault(&batch), Fault::Malformed("a field that is not a record"));
}

#[test]
fn a_record_of_one_byte_too_many_is_refused_by_its_index() {
    let largest = MAX_RECORD_BYTES - 4; // tag and three bytes of length
    assert!(walk(&bytes_of(vec![value(&vec![0; largest])])).is_ok());
    let batch = bytes_of(vec![value(b"fine"), value(&vec![0; largest + 1])]);
    let error = walk(&batch).unwrap_err();
    assert_eq!(error.record, 1);
    assert_eq!(error.fault, Fault::RecordTooLarge(MAX_RECORD_BYTES + 1));
    assert_eq!(Error::from(error).reason(), Reason::TooLarge);
}

#[test]
fn header_limits_are_kept() {
    let header = |name: String| v1::Header { name, value: Bytes::new() };
    let with = |headers| bytes_of(vec![v1::Record { headers, ..value(b"x") }]);
    assert!(walk(&with(vec![header("n".repeat(256)); 64])).is_ok());
    assert_eq!(fault(&with(vec![header("n".to_owned()); 65])), Fault::TooManyHeaders);
    assert_eq!(fault(&with(vec![header("n".repeat(257))])), Fault::HeaderNameTooLong(257));
    let mut bad = with(vec![header("name".to_owned())]);
    let at = bad.windows(4).position(|window| window == b"name").unwrap();
    bad[at] = 0xff;
    assert_eq!(fault(&bad), Fault::Malformed("a header name that is not UTF-8"));
}

#[test]
fn the_last_of_two_keys_wins_as_in_every_protobuf_decoder() {
    let batch = [0x0a, 6, 0x0a, 1, b'a', 0x0a, 1, b'b'];
    assert_eq!(walk(&batch).unwrap()[0].key, Some(&b"b"[..]));
    let decoded = v1::RecordBatch::decode(&batch[..]).unwrap();
    assert_eq!(decoded.records[0].key.as_deref(), Some(&b"b"[..]));
}

#[test]
fn compaction_is_told_keys_and_tombstones_and_keeps_whole_records() {
    let keyed = |key: &[u8], value: Option<&[u8]>| v1::Record {
        key: Some(Bytes::copy_from_slice(key)),
        value: value.map(Bytes::copy_from_slice),
        headers: vec![v1::Header { name: "h".to_owned(), value: Bytes::from_static(b"v") }],
        event_time_unix_nano: 7,
    };
    let records =
        vec![keyed(b"a", Some(b"1")), value(b"x"), keyed(b"b", None), keyed(b"", Some(b""))];
    let batch = Bytes::from(bytes_of(records.clone()));
    let keys = RecordBatchCodec.keys(&batch).unwrap();
    let told: Vec<_> =
        keys.iter().map(|key| key.as_ref().map(|key| (&key.key[..], key.is_tombstone))).collect();
    // An empty key is a key, and an empty value is a value.
    assert_eq!(told, [Some((&b"a"[..], false)), None, Some((b"b", true)), Some((b"", false))]);
    for keep in [&[0, 2][..], &[1], &[3], &[0, 1, 2, 3]] {
        let kept = RecordBatchCodec.retain(&batch, keep).unwrap();
        let expected = keep.iter().map(|index| records[*index as usize].clone());
        assert_eq!(kept, bytes_of(expected.collect()));
        assert_eq!(RecordBatchCodec.count(&kept).unwrap() as usize, keep.len());
    }
}

#[test]
fn unknown_fields_inside_a_record_are_kept() {
    let batch = Bytes::from_static(&[0x0a, 9, 0x0a, 1, b'a', 0x50, 0x96, 0x01, 0x5a, 1, b'z']);
    assert_eq!(walk(&batch).unwrap().len(), 1);
    assert_eq!(RecordBatchCodec.retain(&batch, &[0]).unwrap(), batch);
}

#[test]
fn groups_and_overlong_numbers_are_refused() {
    assert_eq!(fault(&[0x0a, 2, 0x53, 0x54]), Fault::Malformed("an unsupported wire type"));
    let endless = [0x0a, 12, 0x50, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 0];
    assert_eq!(fault(&endless), Fault::Malformed("a number longer than 64 bits"));
    assert_eq!(fault(&[0x0a, 5, 0x0a]), Fault::Malformed("a field that is cut off"));
}

/// The corpus of the fuzz target `batch`, of which every prefix is tried too.
#[test]
fn what_fuzzing_found_worth_keeping_is_walked_as_protobuf_decodes_it() {
    let corpus =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../storage/fuzz/corpus/batch");
    let (mut accepted, mut refused) = (0, 0);
    for entry in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for length in 0..=bytes.len() {
            let batch = &bytes[..length];
            match walk(batch) {
                Ok(views) => {
                    let decoded = v1::RecordBatch::decode(batch).unwrap();
                    assert_eq!(views.len(), decoded.records.len());
                    accepted += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(accepted >= 5 && refused >= 50, "{accepted} accepted, {refused} refused");
}

fn any_record() -> impl Strategy<Value = v1::Record> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let headers = prop::collection::vec(
        ("[a-zé]{0,8}", bytes()).prop_map(|(name, value)| v1::Header { name, value }),
        0..4,
    );
    (prop::option::of(bytes()), prop::option::of(bytes()), headers, any::<u64>()).prop_map(
        |(key, value, headers, event_time_unix_nano)| v1::Record {
            key,
            value,
            headers,
            event_time_unix_nano,
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_what_is_accepted_decodes(
        batch in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        if let Ok(views) = walk(&batch) {
            let decoded = v1::RecordBatch::decode(&batch[..]).expect("accepted bytes decode");
            prop_assert_eq!(views.len(), decoded.records.len());
        }
    }

    #[test]
    fn damaged_batches_never_panic_and_what_is_accepted_decodes(
        records in prop::collection::vec(any_record(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut batch = bytes_of(records);
        for (at, byte) in damage {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        batch.truncate(cut.index(batch.len()) + 1);
        if let Ok(views) = walk(&batch) {
            let decoded = v1::RecordBatch::decode(&batch[..]).expect("accepted bytes decode");
            prop_assert_eq!(views.len(), decoded.records.len());
        }
    }

    #[test]
    fn the_walk_sees_what_a_decoder_sees(records in prop::collection::vec(any_record(), 1..20)) {
        let batch = Bytes::from(bytes_of(records.clone()));
        let views = walk(&batch).unwrap();
        prop_assert_eq!(views.len(), records.len());
        for (view, record) in views.iter().zip(&records) {
            prop_assert_eq!(view.key, record.key.as_deref());
            prop_assert_eq!(view.value, record.value.as_deref());
        }
        prop_assert_eq!(RecordBatchCodec.count(&batch).unwrap() as usize, records.len());
        let keys: Vec<_> = records.iter().map(|record| record.key.clone()).collect();
        let found = RecordBatchCodec.keys(&batch).unwrap().into_iter();
        let found: Vec<_> = found.map(|key| key.map(|key| key.key)).collect();
        prop_assert_eq!(found, keys);
    }

    #[test]
    fn any_subset_of_the_entries_is_the_batch_of_those_records(
        records in prop::collection::vec((any_record(), any::<bool>()), 1..20)
    ) {
        let batch = Bytes::from(bytes_of(records.iter().map(|(r, _)| r.clone()).collect()));
        let keep: Vec<u32> =
            (0..).zip(&records).filter(|(_, (_, keep))| *keep).map(|(index, _)| index).collect();
        let kept = RecordBatchCodec.retain(&batch, &keep).unwrap();
        let wanted = records.iter().filter(|(_, keep)| *keep).map(|(r, _)| r.clone()).collect();
        prop_assert_eq!(kept.to_vec(), bytes_of(wanted));
    }
}
