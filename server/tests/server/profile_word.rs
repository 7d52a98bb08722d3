//! What gates are told of the jurisdiction profile, and that the log which they watch proves it.

use sallyport_protocol::{ProfileWord, paths};
use sallyport_server::{audit, profiles};
use sallyport_transparency::{Checkpoint, Entry, Hash, leaf_hash, verify_inclusion};

use crate::common::{Answer, Client, Rig};

async fn ask(client: &Client, query: &str) -> Answer {
    let path = format!("{}?{query}", paths::PROFILE);
    client.send("GET", &path, b"").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_is_told_the_profile_once_and_the_proof_that_the_log_names_it() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    assert_eq!(ask(&rig.stranger(), "size=0").await.status, 403);
    for bad in [
        "",
        "size=-1",
        "size=x",
        "size=0&index=1&index=2",
        "size=0&colour=red",
    ] {
        assert_eq!(ask(&gate.client, bad).await.status, 400, "{bad}");
    }
    // The server's own, which no entry names.
    let own: ProfileWord = ask(&gate.client, "size=0").await.good();
    assert_eq!(own.text, profiles::read("nsw-2014").unwrap());
    assert_eq!(own.named_by, None);
    let known = format!("size=0&sha256={}", profiles::sha256(&own.text));
    assert_eq!(ask(&gate.client, &known).await.status, 204);

    let text = profiles::read("uk").unwrap();
    let index = profiles::set(&rig.state, &text, "", "test").await.unwrap();
    audit::publish(&rig.state).await.unwrap();
    let note = rig.state.store.checkpoint().await.unwrap().unwrap();
    let kept = Checkpoint::open(note.as_bytes(), rig.state.keys.log.verifier()).unwrap();
    // A checkpoint from before the entry proves nothing yet, nor does one that this log never had.
    for size in [0, index, kept.size + 100] {
        let word: ProfileWord = ask(&gate.client, &format!("size={size}")).await.good();
        assert_eq!((word.text.as_str(), word.named_by), (text.as_str(), None));
    }
    let word: ProfileWord = ask(&gate.client, &format!("size={}&sha256=00", kept.size))
        .await
        .good();
    let named_by = word.named_by.unwrap();
    assert_eq!((named_by.index, named_by.size), (index, kept.size));
    let bytes = named_by.entry.as_bytes();
    let entry = Entry::from_bytes(bytes).unwrap();
    assert_eq!(entry.kind, "profile_change");
    assert_eq!(entry.content, Some(profiles::sha256(&word.text)));
    let proof: Vec<Hash> = named_by
        .proof
        .iter()
        .map(|hash| Hash::from_base64(hash).unwrap())
        .collect();
    let leaf = leaf_hash(bytes);
    assert!(verify_inclusion(index, kept.size, leaf, &proof, kept.root).is_ok());
    // Known with its entry: nothing more to say. Known without: it is proved again.
    let known = format!("size={}&sha256={}", kept.size, profiles::sha256(&text));
    assert_eq!(ask(&gate.client, &known).await.status, 200);
    let known = format!("{known}&index={index}");
    assert_eq!(ask(&gate.client, &known).await.status, 204);
}
