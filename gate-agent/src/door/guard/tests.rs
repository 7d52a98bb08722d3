use super::*;
use ed25519_dalek::{Signer as _, SigningKey};
use sallyport_domain::Timestamp;

const ISSUED: Timestamp = Timestamp::from_micros(1_795_428_420_000_000);

struct Bench {
    _folder: tempfile::TempDir,
    guard: DoorGuard,
    signer: SigningKey,
    expected: Expected,
}

fn at(ms: u64) -> Mono {
    Mono::from_origin(Duration::from_millis(ms))
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let signer = SigningKey::from_bytes(&[9; 32]);
    let key = STANDARD.encode(signer.verifying_key().as_bytes());
    let used = UsedNonces::open(&folder.path().join("nonces")).unwrap();
    Bench {
        guard: DoorGuard::new("front-in".parse().unwrap(), &key, used).unwrap(),
        _folder: folder,
        signer,
        expected: Expected {
            transaction: TransactionId::new(ISSUED, [1; 10]),
            nonce: "ab".repeat(16),
            first_sent: at(10_000),
        },
    }
}

impl Bench {
    fn order(&self) -> DoorOrder {
        DoorOrder {
            purpose: DoorOrder::PURPOSE.to_owned(),
            gate: "front-in".parse().unwrap(),
            transaction: self.expected.transaction,
            nonce: self.expected.nonce.clone(),
            issued_at: ISSUED,
            not_after: ISSUED.plus_millis(DOOR_ORDER_LIFETIME_MS),
        }
    }

    fn signed(&self, order: &DoorOrder) -> SignedDoorOrder {
        let order = serde_json::to_string(order).unwrap();
        SignedDoorOrder {
            signature: STANDARD.encode(self.signer.sign(order.as_bytes()).to_bytes()),
            order,
        }
    }

    fn admit(&mut self, order: &DoorOrder, now: Mono) -> Result<(), OrderRejection> {
        let signed = self.signed(order);
        let expected = self.expected.clone();
        self.guard.admit(&signed, &expected, now, None).map(drop)
    }
}

#[test]
fn ten_thousand_replays_open_once() {
    let mut bench = bench();
    let order = bench.order();
    let mut opened = 0;
    for _ in 0..10_000 {
        match bench.admit(&order, at(10_050)) {
            Ok(()) => opened += 1,
            Err(rejection) => assert_eq!(rejection, OrderRejection::Replayed),
        }
    }
    assert_eq!(opened, 1);
}

#[test]
fn orders_for_others_open_nothing() {
    let mut bench = bench();
    let good = bench.order();
    let cases = [
        (
            DoorOrder {
                gate: "front-out".parse().unwrap(),
                ..good.clone()
            },
            OrderRejection::OtherGate,
        ),
        (
            DoorOrder {
                transaction: TransactionId::new(ISSUED, [2; 10]),
                ..good.clone()
            },
            OrderRejection::OtherTransaction,
        ),
        (
            DoorOrder {
                nonce: "cd".repeat(16),
                ..good.clone()
            },
            OrderRejection::OtherNonce,
        ),
        (
            DoorOrder {
                purpose: "sallyport/checkpoint/1".into(),
                ..good.clone()
            },
            OrderRejection::NotAnOrder,
        ),
        (
            DoorOrder {
                not_after: ISSUED.plus_millis(2_001),
                ..good.clone()
            },
            OrderRejection::BadLifetime,
        ),
        (
            DoorOrder {
                not_after: ISSUED.plus_millis(-1),
                ..good.clone()
            },
            OrderRejection::BadLifetime,
        ),
    ];
    for (order, rejection) in cases {
        assert_eq!(bench.admit(&order, at(10_050)), Err(rejection));
    }
    // The good one still opens: rejected orders burn nothing.
    assert_eq!(bench.admit(&good, at(10_050)), Ok(()));
}

#[test]
fn a_changed_byte_or_another_signer_opens_nothing() {
    let mut bench = bench();
    let good = bench.signed(&bench.order());
    let expected = bench.expected.clone();
    let mut tampered = good.clone();
    tampered.order = tampered.order.replace("front-in", "front-out");
    let mut forged = good.clone();
    let other = SigningKey::from_bytes(&[8; 32]);
    forged.signature = STANDARD.encode(other.sign(good.order.as_bytes()).to_bytes());
    let mut garbage = good.clone();
    garbage.signature = "AAAA".into();
    for bad in [tampered, forged, garbage] {
        assert_eq!(
            bench
                .guard
                .admit(&bad, &expected, at(10_050), None)
                .unwrap_err(),
            OrderRejection::BadSignature
        );
    }
    assert!(
        bench
            .guard
            .admit(&good, &expected, at(10_050), None)
            .is_ok()
    );
}

#[test]
fn a_late_order_needs_the_servers_time_and_must_be_alive_by_it() {
    let mut bench = bench();
    let order = bench.order();
    let signed = bench.signed(&order);
    let expected = bench.expected.clone();
    // The review came 30 s after the request; without heartbeats nobody knows the order's age.
    let now = at(40_000);
    assert_eq!(
        bench
            .guard
            .admit(&signed, &expected, now, None)
            .unwrap_err(),
        OrderRejection::AgeUnknown
    );
    let heartbeat = |server| Some(ServerTime::new(server, at(39_000), at(39_010)));
    // By the server's clock it is now at least 2.5 s after issue.
    assert_eq!(
        bench
            .guard
            .admit(
                &signed,
                &expected,
                now,
                heartbeat(ISSUED.plus_millis(1_500))
            )
            .unwrap_err(),
        OrderRejection::Expired
    );
    // The server's clock was set forward by a day since the heartbeat.
    assert_eq!(
        bench
            .guard
            .admit(
                &signed,
                &expected,
                now,
                heartbeat(ISSUED.plus_millis(-86_400_000))
            )
            .unwrap_err(),
        OrderRejection::AgeUnknown
    );
    // Heartbeats stopped two minutes ago.
    assert_eq!(
        bench
            .guard
            .admit(
                &signed,
                &expected,
                at(160_000),
                heartbeat(ISSUED.plus_millis(-120_000))
            )
            .unwrap_err(),
        OrderRejection::AgeUnknown
    );
    assert!(
        bench
            .guard
            .admit(&signed, &expected, now, heartbeat(ISSUED.plus_millis(-900)))
            .is_ok()
    );
}

#[test]
fn an_order_that_cannot_be_recorded_opens_nothing() {
    let mut bench = bench();
    let order = bench.order();
    // A full or dead disk: every write to this handle fails.
    let path = bench._folder.path().join("nonces");
    bench.guard.used = UsedNonces::failing(&path);
    assert_eq!(
        bench.admit(&order, at(10_050)),
        Err(OrderRejection::NotRecorded)
    );
    assert_eq!(
        bench.admit(&order, at(10_050)),
        Err(OrderRejection::Replayed)
    );
}

#[test]
fn weak_or_damaged_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bad in [String::new(), STANDARD.encode([0; 32]), "?".to_owned()] {
        let used = UsedNonces::open(&folder.path().join("nonces")).unwrap();
        assert!(DoorGuard::new("front-in".parse().unwrap(), &bad, used).is_err());
    }
}
