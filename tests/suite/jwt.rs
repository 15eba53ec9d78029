//! `jwt` over real sockets: keys from a file beside the configuration, and what client and origin see.

use pillion_tests::{Origin, Sidecar};

const KEYS: &str = r#"{"keys":[{"kty":"OKP","kid":"ed","crv":"Ed25519","x":"DHwSbro1hIZ4yYx90sjF_2oeO8staE0MKJpiHaSRu_g"}]}"#;
const KEY: &str = "DHwSbro1hIZ4yYx90sjF_2oeO8staE0MKJpiHaSRu_g";
/// Signed with it, for `ada`, until the year 2100.
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQi\
     OiJhcGkiLCJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.OJL2s8TgtnWqf3y2AfWfUq93RyklKMR\
     V23Fvr8Yb1FpF217Vc_xEbpxHzqcU6glkynUFKYYaRjiTVWY0bz8eDA";
const CONFIG: &str = "config = { jwks = \"${file:keys.json}\", claims = { x-user = \"sub\" } }";

#[tokio::test]
async fn a_valid_token_reaches_the_origin_with_its_claims_and_others_end_in_the_sidecar() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).file("keys.json", KEYS).builtin("jwt", CONFIG);
    let sidecar = setup.start().await;
    let valid = format!("Bearer {TOKEN}");
    let fields = [("authorization", &*valid), ("x-user", "eve"), ("x_user", "eve")];
    let seen = sidecar.get_with("/", &fields).await.seen();
    assert_eq!((seen.all("x-user"), seen.header("x_user")), (vec!["ada"], None));
    assert_eq!(seen.header("authorization"), Some(&*valid));

    let (signed, _) = TOKEN.rsplit_once('.').unwrap();
    let unsigned = format!("Bearer {signed}.");
    for (fields, challenge) in [
        (vec![], "Bearer"),
        (vec![("authorization", &*unsigned)], "Bearer error=\"invalid_token\""),
    ] {
        let refused = sidecar.get_with("/", &fields).await;
        assert_eq!(refused.status, 401);
        let told = refused.header("www-authenticate");
        assert!(told.starts_with(challenge), "{told}");
    }
    assert_eq!(origin.requests(), 1);
    let name = "pillion_filter_custom_jwt_requests_total";
    assert_eq!(sidecar.metric(name, &["outcome=\"accepted\""]).await, 1.0);
}

#[tokio::test]
async fn new_keys_in_the_file_take_the_place_of_the_old_ones() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).file("keys.json", KEYS).builtin("jwt", CONFIG);
    let sidecar = setup.start().await;
    let valid = format!("Bearer {TOKEN}");
    assert_eq!(sidecar.get_with("/", &[("authorization", &*valid)]).await.status, 200);
    // The base point of the curve: a key that signed nothing here.
    let other = "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY";
    sidecar.write("keys.json", KEYS.replace(KEY, other));
    sidecar.generation(2).await;
    assert_eq!(sidecar.get_with("/", &[("authorization", &*valid)]).await.status, 401);
}
