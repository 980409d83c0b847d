// Package certs identifies the ends of a connection: Box key pairs, NaCl certificates, and the
// files that list trusted keys.
//
// # Keys
//
// A [KeyPair] is an X25519 pair for NaCl box. [LoadOrCreateKeyPair] is the usual entry point. The
// file is the reference's JSON, {"secretkey":[32 numbers],"publickey":[32 numbers]}, private to its
// owner and made exclusively. A [PublicKey] is printed and read as 43 characters of unpadded
// base64url. No way of printing a KeyPair or a [CA] shows the secret.
//
// # Certificates
//
// A [Certificate] is the JSON object of the reference implementation (npm package nacl-cert 1.1.0):
//
//	{"desc":{"version":"1.0","type":"self"|"ca","tte":ms,"ca":name,"publickey":[32 numbers],
//	         "names":[…],"ips":[…],"macs":[…],"use":"server"|"client","signtime":ms,"gid":uuid},
//	 "sign":{"signature":[64 numbers]}}
//
// Type "self" is a CA, and publickey its Ed25519 key; type "ca" is signed by a CA, and publickey is
// a Box key. The member use is ours and may be absent; the reference signs and ignores it. The
// signature is over JSON.stringify(desc) as JavaScript prints the object that it parsed, so
// canonical_parse.go holds a parser, and canonical.go a printer, with exactly JavaScript's rules;
// encoding/json differs from them in a dozen places.
//
// [NewCA] and [CA.Issue] make certificates. Don't rely on a received certificate until all of these
// have passed: [Certificate.Verify] (time, version, type, CA, signature, revocation),
// [Certificate.VerifyKey] (it is for the key that the peer has proved to hold),
// [Certificate.VerifyUse] (it is for the peer's end) and, for a server, [Certificate.VerifyHost] if
// it was reached by a name, [Certificate.VerifyAddr] if by an address. Each refusal is a
// [*VerifyError] with a [Reason].
//
// # Trust without certificates
//
// [AuthorizedKeys] lists the clients that a remote admits, with their restrictions. [KnownRemotes]
// is the file in which a local end remembers the keys of remotes, as ssh does. [Revocations] lists
// certificates to refuse.
//
// Package protocol documents how another program uses these packages.
//
// The package opens only the files that it is given, and starts no goroutine. All parsing is
// bounded (limits.go).
package certs
