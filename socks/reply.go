package socks

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"culvert/internal/netfault"
)

// Reply is the result of a dial: a reply code of RFC 1928 section 6, or one of the finer codes that
// follow them here. Each protocol passes on as much of it as it can express.
type Reply uint8

// The reply codes of RFC 1928 section 6. ReplyTTLExpired is the only one that clients show as a
// timeout.
const (
	ReplySucceeded               Reply = 0
	ReplyGeneralFailure          Reply = 1
	ReplyNotAllowed              Reply = 2
	ReplyNetworkUnreachable      Reply = 3
	ReplyHostUnreachable         Reply = 4
	ReplyConnectionRefused       Reply = 5
	ReplyTTLExpired              Reply = 6
	ReplyCommandNotSupported     Reply = 7
	ReplyAddressTypeNotSupported Reply = 8
)

// Replies that RFC 1928 has no code for, in the range that it leaves unassigned. They are never
// sent.
const (
	// ReplyNameNotFound means that the target's name does not exist. A SOCKS5 client gets "host
	// unreachable".
	ReplyNameNotFound Reply = 0x80

	// ReplyUnavailable means that there is no connection to where targets are dialed. A SOCKS5
	// client gets a general failure.
	ReplyUnavailable Reply = 0x81

	// ReplyLookupFailed means that no name server has told whether the target's name exists. A
	// SOCKS5 client gets a general failure.
	ReplyLookupFailed Reply = 0x82

	// ReplyBusy means that where targets are dialed no more connections are accepted. A SOCKS5
	// client gets a general failure.
	ReplyBusy Reply = 0x83
)

// rfc1928 is the code that a SOCKS5 client gets.
func (r Reply) rfc1928() Reply {
	switch {
	case r == ReplyNameNotFound:
		return ReplyHostUnreachable
	case r > ReplyAddressTypeNotSupported:
		return ReplyGeneralFailure
	}
	return r
}

// failure returns r if it is one of the failures above, otherwise a general one.
func (r Reply) failure() Reply {
	switch {
	case r == ReplySucceeded:
		return ReplyGeneralFailure
	case r > ReplyAddressTypeNotSupported && r < ReplyNameNotFound, r > ReplyBusy:
		return ReplyGeneralFailure
	}
	return r
}

// String returns what the code means to a person: the error pages of the HTTP proxy have it.
func (r Reply) String() string {
	switch r {
	case ReplySucceeded:
		return "succeeded"
	case ReplyGeneralFailure:
		return "can't be reached"
	case ReplyNotAllowed:
		return "not allowed"
	case ReplyNetworkUnreachable:
		return "network unreachable"
	case ReplyHostUnreachable:
		return "host unreachable"
	case ReplyConnectionRefused:
		return "connection refused"
	case ReplyTTLExpired:
		return "timed out"
	case ReplyCommandNotSupported:
		return "command not supported"
	case ReplyAddressTypeNotSupported:
		return "address type not supported"
	case ReplyNameNotFound:
		return "name not found"
	case ReplyUnavailable:
		return "no connection to the remote"
	case ReplyLookupFailed:
		return "name can't be looked up"
	case ReplyBusy:
		return "the remote accepts no more connections"
	}
	return fmt.Sprintf("reply %d", uint8(r))
}

// ClassifyNetError translates an error of package net, or of a context, into the reply that
// describes it best. It is the default of Config.Classify, and a fallback for other
// implementations.
func ClassifyNetError(err error) Reply {
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
		return ReplyNameNotFound
	} else if ok && !dnsErr.IsTimeout {
		return ReplyLookupFailed
	}
	switch {
	case netfault.Is(err, syscall.ECONNREFUSED):
		return ReplyConnectionRefused
	case netfault.HostUnreachable(err):
		return ReplyHostUnreachable
	case netfault.Is(err, syscall.ENETUNREACH):
		return ReplyNetworkUnreachable
	case errors.Is(err, fs.ErrPermission), netfault.Is(err, syscall.EACCES):
		return ReplyNotAllowed
	case netfault.Timeout(err):
		return ReplyTTLExpired
	}
	return ReplyGeneralFailure
}
