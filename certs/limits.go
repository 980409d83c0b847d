package certs

import "time"

const (
	// MaxCertificateSize is the greatest length in bytes of a certificate's JSON, as read and as
	// printed again. A certificate with a few names takes under 1 KiB; 64 KiB leaves room for
	// hundreds of names and is still cheap to parse for an unauthenticated peer.
	MaxCertificateSize = 64 << 10

	// maxNames is how many entries each of a request's names, ips and macs may have: more than a
	// host has, and few enough that matching stays cheap and the certificate small.
	maxNames = 256

	// maxNameLength is the greatest length in bytes of one name, address or MAC of a request: a
	// domain name's (RFC 1035, section 3.1) with its trailing dot.
	maxNameLength = 255

	// maxCANameLength is the greatest length in bytes of a CA's name. The name is copied into each
	// certificate.
	maxCANameLength = 1024

	// maxKeyFileSize bounds a key file in bytes: a CA's certificate, and room for its 64 secret
	// numbers with generous white space.
	maxKeyFileSize = MaxCertificateSize + 4<<10

	// maxDepth is how deep arrays and objects may nest. A certificate needs 3; unknown members,
	// which the reference ignores but signs, may nest some more. It bounds the stack of the parser
	// and of the printer.
	maxDepth = 64

	// maxTrustFile bounds a file of authorized keys, known remotes or revocations, in bytes.
	maxTrustFile = 8 << 20

	// maxTrustLine bounds one line of such a file in bytes, its line break excluded: a key, an
	// address or a long list of rules, and a comment.
	maxTrustLine = 16 << 10

	// maxAuthorizedKeys bounds how many keys a file may list, since Lookup compares with every one
	// of them (so that its duration does not reveal which matched): 2^14 comparisons take well
	// under a millisecond.
	maxAuthorizedKeys = 1 << 14

	// maxRemoteAddr is the greatest length in bytes of a remote's address in the known-remotes
	// file.
	maxRemoteAddr = 1024

	// lockWait is how long KnownRemotes.Add waits for another process that holds the file's lock.
	// The lock is held for one read and one short write.
	lockWait = 5 * time.Second

	// lockRetry is the pause between two attempts to take that lock.
	lockRetry = 5 * time.Millisecond
)
