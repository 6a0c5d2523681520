//! Golden bytes: what version 3 writes, for ever. A test that fails here means that directories
//! of users can no longer be read.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::entry::ProducerStamp;
use crate::position::{FileKey, FileSequence, Lsn, Offset, StreamId, Timestamp};
use crate::retention::{Compaction, Policy};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn batch() -> Frame {
    Frame {
        starts_entry: true,
        payload_crc: 0x0403_0201,
        payload_offset: 64,
        payload_bytes: 5,
        base_offset: Offset(7),
        count: 3,
        schema: 11,
        application: 12,
        broker_time: Timestamp(99),
        producer: Some(ProducerStamp { scope: 13, id: [0xab; 16], epoch: 14, sequence: 15 }),
        ..Frame::control(FrameKind::Batch, StreamId(6), Timestamp(100))
    }
}

fn segment() -> SegmentRecord {
    SegmentRecord {
        merge: 3,
        part: 1,
        first_rank: FileSequence(1),
        rank: FileSequence(2),
        salt: [0x5a; 16],
        size: 20480,
        end: 16384,
        streams: (StreamId(6), StreamId(8)),
    }
}

fn policy() -> Policy {
    Policy {
        max_age: Some(Duration::from_nanos(5)),
        max_bytes: None,
        max_count: Some(7),
        compact: Some(Compaction { tombstone_min_age: Duration::from_nanos(8) }),
    }
}

#[test]
fn a_group_says_how_far_back_its_ends_reach() {
    let header = GroupHeader { reach: 0x0102, ..header(0, 0) };
    let mut bytes = Vec::new();
    header.encode(Salted::new(&[7; 16], header.sequence, header.lsn.0), &mut bytes);
    assert_eq!(bytes[4..8], [0, 0, 2, 1]);
    assert_eq!(GroupHeader::decode(&[7; 16], header.sequence, &bytes), Ok(header));
}

/// The header of a group of that many frames, whose table begins at 69.
fn header(frames: u32, ends: u32) -> GroupHeader {
    GroupHeader {
        reach: 0,
        is_seal: false,
        sequence: FileSequence(2),
        lsn: Lsn(41),
        length: 4096,
        entries: frames,
        frames,
        table_offset: 69,
        table_bytes: 12,
        table_crc: 1,
        ends,
        wall_time: Timestamp(3),
    }
}

/// A table that holds one frame.
fn frame(bytes: &[u8]) -> Result<Frame, Malformed> {
    Table::decode(&header(1, 0), bytes).map(|mut table| table.frames.remove(0))
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    assert_eq!(bytes.len(), frame.encoded_bytes());
    bytes
}

#[test]
fn a_batch_frame() {
    let expected = "0103000001020304400000000500000006000000000000000700000000000000\
                    030000000b0000000c0000000000000064000000000000006300000000000000\
                    0d00000000000000abababababababababababababababab0f00000000000000\
                    0e00000000000000";
    assert_eq!(hex(&encoded(&batch())), expected);
    assert_eq!(frame(&encoded(&batch())), Ok(batch()));
}

#[test]
fn a_compacted_batch_frame_keeps_its_offsets() {
    let compacted = Frame { count: 2, offset_deltas: vec![0, 9], ..batch() };
    let bytes = encoded(&compacted);
    assert_eq!(hex(&bytes[44..48]), "02000000");
    assert_eq!(hex(&bytes[104..]), "0000000009000000");
    assert_eq!(compacted.end(), Offset(17));
    assert_eq!(frame(&bytes), Ok(compacted));
    for deltas in [vec![5, 5], vec![1]] {
        let wrong = Frame { count: 2, offset_deltas: deltas, ..batch() };
        assert!(frame(&encoded(&wrong)).is_err());
    }
}

#[test]
fn every_kind_of_control_record() {
    let records = [
        (ControlRecord::CreateStream, 2, ""),
        (ControlRecord::DeleteStream, 3, ""),
        (ControlRecord::Trim(Offset(258)), 4, "0201000000000000"),
        (ControlRecord::Retention(Offset(1)), 5, "0100000000000000"),
        (ControlRecord::Quarantine(Offset(1), Offset(2)), 6, "01000000000000000200000000000000"),
        (
            ControlRecord::Merged(MergedRecord {
                merge: 3,
                inputs: vec![
                    FileKey::journal(FileSequence(1)),
                    FileKey { rank: FileSequence(2), merge: 1, part: 4 },
                ],
                outputs: vec![segment()],
                compacted: vec![(StreamId(6), Offset(7))],
            }),
            7,
            "03000000000000000200000001000000000000000000000000000000000000000200000000000000\
             01000000000000000400000001000000030000000000000001000000010000000000000002000000\
             000000005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0050000000000000004000000000000006000000\
             0000000008000000000000000100000006000000000000000700000000000000",
        ),
        (
            ControlRecord::EpochChange { scope: 1, producer: [0xcd; 16], epoch: 2 },
            8,
            "0100000000000000cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd02000000",
        ),
        (
            ControlRecord::SetState { key: Bytes::from("k"), value: Some(Bytes::from("vw")) },
            9,
            "010000006b01020000007677",
        ),
        (ControlRecord::SetState { key: Bytes::from("k"), value: None }, 9, "010000006b00"),
        (
            ControlRecord::SetPolicy(policy()),
            10,
            "0d0500000000000000000000000000000007000000000000000800000000000000",
        ),
        (
            ControlRecord::SetPolicy(Policy { max_bytes: Some(6), ..Policy::default() }),
            10,
            "020000000000000000060000000000000000000000000000000000000000000000",
        ),
    ];
    for (record, number, expected) in records {
        let mut payload = Vec::new();
        record.encode(&mut payload);
        assert_eq!(hex(&payload), expected, "{record:?}");
        let frame = Frame::control(record.kind(), StreamId(1), Timestamp(2));
        assert_eq!(encoded(&frame)[0], number);
        assert_eq!(ControlRecord::decode(&frame, &payload), Ok(record));
        payload.push(0);
        assert!(ControlRecord::decode(&frame, &payload).is_err(), "bytes follow the end");
    }
}

#[test]
fn a_file_header() {
    let header = FileHeader {
        sequence: FileSequence(2),
        salt: [0x5a; 16],
        base_lsn: Lsn(40),
        previous: Some(PreviousFile { sequence: FileSequence(1), end: 12288 }),
        size: 4 << 20,
        wall_time: Timestamp(1),
    };
    let bytes = header.encode();
    assert_eq!(bytes.len(), FILE_HEADER_BYTES);
    assert_eq!(
        hex(&bytes[..84]),
        "4d4553484c4f474a010000000000000002000000000000005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\
         28000000000000000100000000000000003000000000000000004000000000000100000000000000\
         4a27dbce"
    );
    assert_eq!(bytes[..4096], bytes[4096..]);
    assert_eq!(FileHeader::decode(&bytes), Ok(header));
    let mut rotten = bytes.clone();
    rotten[30] ^= 1;
    assert_eq!(FileHeader::decode(&rotten), Ok(header), "the second copy serves");
    rotten[4096 + 30] ^= 1;
    assert!(FileHeader::decode(&rotten).is_err());
}

#[test]
fn a_segment_header() {
    let bytes = SegmentHeader(segment()).encode();
    assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
    assert_eq!(
        hex(&bytes[..96]),
        "4d4553484c4f47530100000000000000030000000000000001000000010000000000000002000000\
         000000005a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0050000000000000004000000000000006000000\
         0000000008000000000000002233f2dd"
    );
    assert_eq!(SegmentHeader::decode(&bytes), Ok(SegmentHeader(segment())));
    let mut rotten = bytes.clone();
    rotten[20] ^= 1;
    assert_eq!(SegmentHeader::decode(&rotten), Ok(SegmentHeader(segment())));
    rotten[4096 + 20] ^= 1;
    assert!(SegmentHeader::decode(&rotten).is_err());
}

#[test]
fn a_group_header_and_its_seal() {
    let header = GroupHeader { is_seal: true, table_offset: 64, ..header(0, 0) };
    let salted = Salted::new(&[0x5a; 16], FileSequence(2), 41);
    let mut bytes = Vec::new();
    header.encode(salted, &mut bytes);
    assert_eq!(
        hex(&bytes),
        "4d4c4752010000000200000000000000290000000000000000100000000000000000000040000000\
         0c0000000100000003000000000000000000000054eb27d6"
    );
}

#[test]
fn a_group_repeats_where_the_streams_before_it_ended() {
    let end = |stream, end| StreamEnd { stream: StreamId(stream), end: Offset(end) };
    let table = Table { frames: vec![batch()], ends: vec![end(6, 7), end(9, 300)] };
    let mut bytes = Vec::new();
    Table::encode(&table.frames, &table.ends, &mut bytes);
    assert_eq!(
        hex(&bytes[104..]),
        "0600000000000000070000000000000009000000000000002c01000000000000"
    );
    assert_eq!(Table::decode(&header(1, 2), &bytes), Ok(table));
    assert!(Table::decode(&header(1, 1), &bytes).is_err(), "every byte of the table is counted");

    let salted = Salted::new(&[0x5a; 16], FileSequence(2), 41);
    let mut bytes = Vec::new();
    header(1, 2).encode(salted, &mut bytes);
    assert_eq!(hex(&bytes[56..60]), "02000000");
    assert_eq!(GroupHeader::decode(&[0x5a; 16], FileSequence(2), &bytes), Ok(header(1, 2)));
}

#[test]
fn a_footer_of_several_streams() {
    let run = |base, position, bytes| Run {
        base_offset: Offset(base),
        append_time: Timestamp(5),
        position,
        bytes,
    };
    let footer = Footer {
        next: Some(FileSequence(3)),
        streams: vec![
            FooterStream {
                stream: StreamId(1),
                end: Offset(9),
                bytes: 19,
                runs: vec![run(0, 8192, 0), run(4, 1 << 21, 17)],
            },
            FooterStream {
                stream: StreamId(8),
                end: Offset(6),
                bytes: 258,
                runs: vec![run(5, 8192, 256)],
            },
        ],
    };
    let mut bytes = Vec::new();
    footer.encode(&mut bytes);
    assert_eq!(
        hex(&bytes),
        "4d4553484c4f47460300000000000000020000000100000000000000090000000000000013000000\
         00000000020000000000000000000000050000000000000000200000000000000000000000000000\
         04000000000000000500000000000000000020000000000011000000000000000800000000000000\
         06000000000000000201000000000000010000000500000000000000050000000000000000200000\
         000000000001000000000000"
    );
    assert_eq!(Footer::decode(&bytes), Ok(footer.clone()));
    assert!(bytes.len() <= Footer::encoded_bound(2, 3, 0));
    assert_eq!(footer.find(StreamId(8)), Some(&footer.streams[1]));
    assert_eq!(footer.streams[0].bytes_inside(), 19);

    // As version 1 wrote it: it named the file before, and counted no bytes.
    let first: Vec<u8> = unhex(
        "0300000000000000020000000100000000000000000000000000000009000000000000000200000000\
         000000000000000500000000000000002000000000000004000000000000000500000000000000000020\
         000000000008000000000000000100000000000000060000000000000001000000050000000000000005\
         000000000000000020000000000000",
    );
    let mut uncounted = footer;
    for stream in &mut uncounted.streams {
        stream.bytes = 0;
        stream.runs.iter_mut().for_each(|run| run.bytes = 0);
    }
    assert_eq!(Footer::decode(&first), Ok(uncounted));
}

#[test]
fn a_checkpoint() {
    let checkpoint = Checkpoint {
        clock_doubt: 0,
        lsn: Lsn(1),
        sequence: FileSequence(2),
        position: 3,
        wall_time: Timestamp(4),
        next_stream: 5,
        last_merge: 3,
        streams: vec![StreamRecord {
            stream: StreamId(6),
            start: Offset(7),
            end: Offset(8),
            last_time: Timestamp(9),
            last_file: Some(FileSequence(1)),
            bytes: 10,
            compacted_to: Offset(2),
        }],
        policies: vec![(StreamId(6), policy())],
        active: Vec::new(),
        producers: vec![ProducerRecord {
            scope: 1,
            id: [2; 16],
            epoch: 3,
            next_sequence: 4,
            recent: vec![RecentRecord {
                lsn: Lsn(5),
                ranges: vec![(StreamId(6), Offset(7), 8, Timestamp(9))],
            }],
        }],
        forgotten: Vec::new(),
        state: vec![(Bytes::from("k"), Bytes::from("v"))],
        files: vec![FileRecord {
            sequence: FileSequence(1),
            slot: 2,
            salt: [3; 16],
            size: 4,
            base_lsn: Lsn(5),
            last_lsn: Lsn(6),
            end: 7,
            seal: Some(7),
            previous: None,
        }],
        segments: vec![segment()],
        quarantine: vec![QuarantineRecord {
            stream: StreamId(6),
            first: Offset(1),
            end: Offset(2),
        }],
        damage: vec!["d".into()],
    };
    let bytes = checkpoint.encode();
    assert_eq!(bytes.len(), 343 + 8 + 16 + 45 + 8 + 80);
    assert_eq!(hex(&bytes[..16]), "4d4553484c4f47430200000000000000");
    assert_eq!(hex(&bytes[bytes.len() - 4..]), "375569c6");
    assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
    for cut in 0..bytes.len() {
        assert!(Checkpoint::decode(&bytes[..cut]).is_err());
    }

    // Only once a producer was forgotten: 4 bytes, and 8 for each cell.
    let decoded = Checkpoint::decode(&bytes).expect("it was decoded before");
    let forgotten = Checkpoint { forgotten: vec![(7, 1), (70_000, 3)], ..decoded };
    let longer = forgotten.encode();
    assert_eq!(longer.len(), bytes.len() + 4 + 16);
    assert_eq!(
        hex(&longer[bytes.len() - 4..bytes.len() + 16]),
        "0200000007000000010000007011010003000000"
    );
    assert_eq!(Checkpoint::decode(&longer), Ok(forgotten));
}

#[test]
fn a_checkpoint_of_a_time_when_the_clock_was_off() {
    let checkpoint = Checkpoint { clock_doubt: 0x0403_0201, ..Checkpoint::default() };
    let bytes = checkpoint.encode();
    assert_eq!(bytes[8..16], [2, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
}

#[test]
fn a_checkpoint_with_a_forgotten_producer() {
    let checkpoint = Checkpoint { forgotten: vec![(65_537, 2)], ..Checkpoint::default() };
    let bytes = checkpoint.encode();
    let body = &bytes[..bytes.len() - 4];
    assert_eq!(hex(&body[body.len() - 12..]), "010000000100010002000000");
    assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
    for cut in 0..bytes.len() {
        assert!(Checkpoint::decode(&bytes[..cut]).is_err());
    }
}

#[test]
fn the_format_file() {
    let text = DirectoryFormat::CURRENT.encode();
    assert_eq!(text, "meshlog data directory\nversion 3\nfeatures 00000000 00000000 00000000\n");
    assert_eq!(DirectoryFormat::decode(text.as_bytes()), Ok(DirectoryFormat::CURRENT));
    assert!(DirectoryFormat::decode(b"something else\n").is_err());
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = GroupHeader::decode(&[0; 16], FileSequence(1), &bytes);
            let _ = Table::decode(&header(3, 1), &bytes);
            let _ = Footer::decode(&bytes);
            let _ = FileHeader::decode(&bytes);
            let _ = SegmentHeader::decode(&bytes);
            let _ = Checkpoint::decode(&bytes);
            let _ = DirectoryFormat::decode(&bytes);
            for kind in [FrameKind::Trim, FrameKind::Merged, FrameKind::SetState, FrameKind::SetPolicy] {
                let frame = Frame::control(kind, StreamId(1), Timestamp(0));
                let _ = ControlRecord::decode(&frame, &bytes);
            }
        }

        #[test]
        fn a_checkpoint_body_of_arbitrary_bytes_never_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut whole = b"MESHLOGC\x02\0\0\0\0\0\0\0".to_vec();
            whole.append(&mut bytes);
            let crc = crc32fast::hash(&whole);
            whole.extend_from_slice(&crc.to_le_bytes());
            let _ = Checkpoint::decode(&whole);
        }

        #[test]
        fn a_frame_comes_back_as_it_went(
            stream in any::<u64>(), base in 0..u64::MAX / 2, count in 1..u32::MAX,
            time in any::<u64>(), epoch in any::<u32>(), sequence in any::<u64>(),
        ) {
            let sent = Frame {
                stream: StreamId(stream),
                base_offset: Offset(base),
                count,
                append_time: Timestamp(time),
                producer: Some(ProducerStamp { scope: 1, id: [1; 16], epoch, sequence }),
                ..batch()
            };
            prop_assert_eq!(frame(&encoded(&sent)), Ok(sent));
        }
    }
}
