//! Keys and tokens for the tests: a key of each kind with a public half, and a token signed with it.
//!
//! Made once; the private halves are not kept. Every token has the claims `iss` (`https://id.example`),
//! `aud` (`api`), `sub` (`ada`) and an expiry in the year 2100.

/// `kid` is `rsa`.
pub(super) const RSA_KEY: &str = "{\"kty\":\"RSA\",\"kid\":\"rsa\",\"use\":\"sig\",\"alg\":\"RS256\",\"n\":\"4-oJ7Ld7Lal\
     Qi5dxeNDb5Cz21Hc05Kbrw7jZq3v9lrma4xlwBfFdZ_P1NG18lP68NDD2aAWWKiQYDT6OWxOy8SldxZ3t-1WoE\
     DU-h5VITm856NyU1C3b-AAk4xgYYIdBR69dzdiCu_PTAsEKbTKMiJUFz_jO5VWMzXA65NKymjhsry3bDQVKYTb\
     vt75bsExIO66SuNVy8WwGGSqLU3Rt3AnDOns8iPfbEdO_u40ociFuYA4-Gb3yfNVMCnepbMcCqUhEXjm2SpdQU\
     4L-A7C4lccK39DnBTcNDraIbbUJ30SuQcoeQ2IpTShQougvXpn7q7YF-2uaRcP--LO9BsQcww\",\"e\":\"AQ\
     AB\"}";

pub(super) const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJhcGk\
     iLCJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.a0rEreCm5t_WjkXuRxJKnogbPgBuzLSaEtlnevMBxkBbbd\
     UlNOPP6go0BgwP1tiY28V_5rdN8wpuCh_If8BMPZxfPOLd7Npp84ZcBawN6KQP_2Qk0PIsmU9_dqn1PQsT771dDs\
     dBZmXd3sNt_xUVB2h55RNFn3ZrXJxj2H1-TdFZDnDXT6uiDDFNzxNdHWiKL7kEACswp0mCmBgqwKgwtMtOJQP2XS\
     ofdbjCDzouGyVpzZxDubYz9yElTAUynCzmqfiBI1fuCYtwskTVCDlKu3mEKAtsnguUfLd6r5lqOYh3mQ-BPB7Krh\
     btsKIlcDdeX9wTsjVXpOWjBrGPDGpirQ";

/// `kid` is `ec`.
pub(super) const P256_KEY: &str = "{\"kty\":\"EC\",\"kid\":\"ec\",\"crv\":\"P-256\",\"x\":\"qmHPuLbnzxPCuzk9G4-8OHmEUo-fM\
     ciHPNJ5f5-vF5E\",\"y\":\"oIMcOTzJn0co9YMacw8KorAzpzryq1VG60WueBGfwWg\"}";

pub(super) const P256_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImVjIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJhcGki\
     LCJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.NyklqDftb2wdsdGq441r3nBeDf88hM8Zltho5DourViyfoY\
     GG-FAp2imblG5dcdAL0lX2swzxilx2mr3zDKeGA";

/// `kid` is `ed`.
pub(super) const ED25519_KEY: &str = "{\"kty\":\"OKP\",\"kid\":\"ed\",\"crv\":\"Ed25519\",\"x\":\"DHwSbro1hIZ4yYx90sjF_2oeO8\
     staE0MKJpiHaSRu_g\"}";

pub(super) const ED25519_TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJhcGki\
     LCJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.OJL2s8TgtnWqf3y2AfWfUq93RyklKMRV23Fvr8Yb1FpF217\
     Vc_xEbpxHzqcU6glkynUFKYYaRjiTVWY0bz8eDA";
